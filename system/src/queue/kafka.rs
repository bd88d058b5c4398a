//! Apache Kafka as a queue: one topic, an idempotent producer, consumer groups.
//!
//! - Publishing waits for all in-sync replicas, keeps the order of a key, and creates no duplicates within
//!   the life of one publisher. See [`KafkaPublisher`] for what it costs and bounds.
//! - Receiving is at least once, with offsets committed after processing. See [`KafkaSubscriber`].
//! - A [`Message`](crate::message::Message)'s key is the record's key; its id travels as header
//!   `message_id`, other headers as they are.
//! - With [`KafkaConfig::transactions`] messages become visible in committed groups, and this crate's
//!   subscribers read only those. That is exactly once from `publish` to the log and from the log to a
//!   consumer that answers what it was given: retries, broker restarts, lost connections and aborted groups
//!   neither lose nor duplicate an acknowledged message. It does not cover a consumer that dies, is
//!   expelled or gives back after it has acted: those messages come again, as its effects elsewhere are not
//!   part of the transaction.
//!
//! Blocking calls run on threads of their own; no runtime is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

mod admin;
mod arena;
mod blocking;
mod config;
mod counters;
mod membership;
#[expect(unsafe_code, reason = "the few librdkafka calls without a safe wrapper; see the module's header")]
mod native;
mod poller;
mod publisher;
mod secret;
mod stats;
mod subscriber;
mod tracker;
mod transaction;
mod window;

pub use config::{Compression, KafkaConfig, Sasl, SaslMechanism, Tls, Transactions};
pub use publisher::KafkaPublisher;
pub use secret::Secret;
pub use subscriber::{KafkaDelivery, KafkaSubscriber};

use self::admin::Admin;
use self::counters::Counters;
use self::membership::{Membership, Phase};
use self::publisher::{Core, Registry};
use self::stats::ClientNotes;
use crate::queue::{
    Acknowledge, Completions, DeliveryPromise, Depth, Promise, Queue, QueueError, Statistics,
    SubscribeOptions,
};

const BACKEND: &str = "kafka";

/// How often closing looks whether consumers have answered.
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// One topic, created or checked.
#[derive(Debug)]
pub struct Kafka(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: KafkaConfig,
    admin: Admin,
    counters: Arc<Counters>,
    publishers: Arc<Registry>,
    opened: AtomicUsize,
    subscribers: Mutex<Vec<Arc<Membership>>>,
    groups: Mutex<BTreeSet<String>>,
    closed: AtomicBool,
}

impl Kafka {
    /// Connects, and creates the topic or compares it with the settings.
    ///
    /// # Errors
    /// [`QueueError::Setting`] before anything is tried, [`QueueError::Unreachable`] with what librdkafka
    /// said last, [`QueueError::Clash`] naming every setting of an existing topic that differs.
    pub async fn open(config: KafkaConfig) -> Result<Self, QueueError> {
        config.validate()?;
        let counters = Arc::new(Counters::default());
        let notes = Arc::new(ClientNotes::new(Arc::clone(&counters)));
        let settings = config.clone();
        let admin = blocking::run("open", move || Admin::open(settings, notes)).await??;
        tracing::info!(topic = config.topic, created = admin.created(), "topic open");
        Ok(Self(Arc::new(Inner {
            config,
            admin,
            counters,
            publishers: Arc::default(),
            opened: AtomicUsize::new(0),
            subscribers: Mutex::default(),
            groups: Mutex::default(),
            closed: AtomicBool::new(false),
        })))
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &KafkaConfig {
        &self.0.config
    }

    fn check_open(&self) -> Result<(), QueueError> {
        if self.0.closed.load(SeqCst) { Err(QueueError::Closed(BACKEND)) } else { Ok(()) }
    }
}

impl Queue for Kafka {
    type Publisher = KafkaPublisher;
    type Subscriber = KafkaSubscriber;

    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn promise(&self) -> Promise {
        let config = &self.0.config;
        Promise {
            delivery: match config.transactions {
                Some(_) => DeliveryPromise::ExactlyOnce,
                None => DeliveryPromise::AtLeastOnce,
            },
            ordered_per_key: true,
            ordered_among_consumers: true,
            durability: config.durability,
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<KafkaPublisher, QueueError> {
        self.check_open()?;
        let inner = Arc::clone(&self.0);
        let core = blocking::run("publisher", move || {
            let number = inner.opened.fetch_add(1, SeqCst);
            Core::open(&inner.config, number, &completions, &inner.counters)
        })
        .await??;
        let publisher = KafkaPublisher::new(core, Arc::clone(&self.0.publishers));
        // Dropping it drains it, if the queue was closed meanwhile.
        self.check_open()?;
        Ok(publisher)
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<KafkaSubscriber, QueueError> {
        self.check_open()?;
        let wrong = |setting, reason: &str| {
            Err(QueueError::Setting { backend: BACKEND, setting, reason: reason.to_owned() })
        };
        if options.group.is_empty() {
            return wrong("group", "want a name");
        }
        if options.prefetch == 0 {
            return wrong("prefetch", "want 1 or more");
        }
        let inner = &self.0;
        let shared = Arc::new(Membership::new(
            inner.config.topic.clone(),
            options.group.clone(),
            options.prefetch,
            options.acknowledge == Acknowledge::OnReceive,
            inner.config.transactions.is_some(),
            Arc::clone(&inner.counters),
        ));
        // Made before the wait, so that giving up the wait stops the thread.
        let subscriber = KafkaSubscriber::new(Arc::clone(&shared));
        let (joined, result) = oneshot::channel();
        poller::start(&inner.config, Arc::clone(&shared), joined)?;
        inner.remember(shared);
        inner.groups.lock().insert(options.group);
        self.check_open()?;
        match result.await {
            Ok(result) => result.map(|()| subscriber),
            Err(_) => Err(QueueError::Closed(BACKEND)),
        }
    }

    /// From the broker: the log's ends less the group's committed positions; of the largest group where
    /// several subscribed here, of all messages where none did. What members elsewhere have in hand counts
    /// as ready, and so do a transaction's markers until a member here has passed them.
    async fn depth(&self) -> Result<Depth, QueueError> {
        self.check_open()?;
        let inner = Arc::clone(&self.0);
        blocking::run("depth", move || inner.depth()).await?
    }

    fn statistics(&self) -> Statistics {
        self.0.counters.snapshot(self.0.config.max_in_flight as u64)
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        let inner = Arc::clone(&self.0);
        blocking::run("settings", move || inner.admin.evidence()).await?
    }

    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        let inner = Arc::clone(&self.0);
        let until = Instant::now() + deadline;
        blocking::run("close", move || inner.close(until)).await?
    }

    async fn remove(&self) -> Result<(), QueueError> {
        if !self.0.admin.created() {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        blocking::run("remove", move || inner.admin.remove()).await?
    }
}

impl Inner {
    fn remember(&self, subscriber: Arc<Membership>) {
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|other| !other.has_ended());
        subscribers.push(subscriber);
    }

    fn depth(&self) -> Result<Depth, QueueError> {
        let groups: Vec<String> = self.groups.lock().iter().cloned().collect();
        if groups.is_empty() {
            let ready = self.admin.lag(None)?.iter().map(|lag| lag.end - lag.begin).sum::<i64>();
            return Ok(Depth { ready: u64::try_from(ready).ok(), unacknowledged: None });
        }
        let mut largest = 0;
        for group in groups {
            let lags = self.admin.lag(Some(&group))?;
            let mut waiting: Vec<i64> = lags
                .iter()
                .map(|lag| (lag.end - lag.committed.unwrap_or(lag.begin).max(lag.begin)).max(0))
                .collect();
            // Members here know better: what they have processed is committed up to a second later.
            let members: Vec<_> =
                self.subscribers.lock().iter().filter(|member| member.group == group).cloned().collect();
            for member in members {
                for (partition, position, open) in member.tracker.lock().progress() {
                    if let (Some(waiting), Some(lag)) =
                        (waiting.get_mut(partition as usize), lags.get(partition as usize))
                    {
                        *waiting = i64::try_from(open).unwrap_or(i64::MAX) + (lag.end - position).max(0);
                    }
                }
            }
            largest = largest.max(waiting.iter().sum());
        }
        let in_hand = self.counters.in_hand();
        let waiting = u64::try_from(largest).unwrap_or(0);
        Ok(Depth { ready: Some(waiting.saturating_sub(in_hand)), unacknowledged: Some(in_hand) })
    }

    fn close(&self, until: Instant) -> Result<(), QueueError> {
        let first = !self.closed.swap(true, SeqCst);
        let publishers = std::mem::take(&mut *self.publishers.lock());
        let subscribers = std::mem::take(&mut *self.subscribers.lock());
        if !first && publishers.is_empty() && subscribers.is_empty() {
            return Ok(());
        }
        for publisher in &publishers {
            publisher.stop_intake();
        }
        for subscriber in &subscribers {
            subscriber.advance(Phase::Draining);
        }
        let mut outstanding = 0;
        for publisher in &publishers {
            outstanding += publisher.finish(until) as u64;
        }
        while self.counters.in_hand() > 0 && Instant::now() < until {
            std::thread::sleep(DRAIN_STEP);
        }
        outstanding += self.counters.in_hand();
        for subscriber in &subscribers {
            subscriber.advance(Phase::Stopping);
        }
        for subscriber in &subscribers {
            if !subscriber.await_end(until) {
                tracing::warn!(group = subscriber.group, "a consumer is still leaving its group");
            }
        }
        if outstanding == 0 {
            Ok(())
        } else {
            Err(QueueError::CloseDeadline { backend: BACKEND, outstanding })
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for subscriber in &*self.subscribers.lock() {
            subscriber.advance(Phase::Stopping);
        }
    }
}
