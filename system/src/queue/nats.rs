//! NATS JetStream.
//!
//! Publishing pipelines: messages leave one after another over a connection, the server's acknowledgements
//! come back over one inbox, and a table of slots tells which is whose ([`NatsPublisher`]). Consuming uses a
//! durable pull consumer per group with an answer after processing ([`NatsSubscriber`]).
//!
//! Promises: at least once while the server keeps its files. A message with an id is stored once, also when
//! it had to be sent again after a broken connection, since the server drops a second copy within its
//! duplicate window. A message without an id is never sent again once it may have been stored: its fate is
//! then unknown. Order per producer holds, also over a reconnect, unless the stream refuses single messages.
//!
//! Bounds: `max_in_flight` without an outcome per connection, `prefetch` per subscriber, and a time limit
//! for every wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Event, Subject};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod answer;
mod config;
mod connect;
mod counters;
mod delivery;
mod headers;
mod link;
mod publisher;
mod settings;
mod slots;
mod stream;
mod subscriber;

pub use config::{NatsAuth, NatsConfig, NatsRetention, NatsStorage, NatsTls, Secret};
pub use delivery::NatsDelivery;
pub use publisher::NatsPublisher;
pub use subscriber::NatsSubscriber;

use super::{
    Acknowledge, Completions, DeliveryPromise, Depth, Promise, Queue, QueueError, Statistics,
    SubscribeOptions,
};
use connect::{OnEvent, chain, failed};
use counters::Counters;
use delivery::{Hand, History};
use link::Link;

const BACKEND: &str = "nats";

/// One JetStream stream and our connections to its server.
#[derive(Debug)]
pub struct Nats {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    config: Arc<NatsConfig>,
    counters: Arc<Counters>,
    /// For questions, not for messages.
    js: Context,
    stream_created: bool,
    links: tokio::sync::Mutex<Vec<Arc<Link>>>,
    next_link: AtomicUsize,
    consuming: tokio::sync::Mutex<Vec<Consuming>>,
    groups: Mutex<BTreeMap<String, Group>>,
    /// Ends the connections' tasks.
    stop: CancellationToken,
    /// Ends the subscribers' intake.
    closed: CancellationToken,
    closing: AtomicBool,
    tasks: TaskTracker,
}

/// A group that was subscribed to.
#[derive(Debug, Default)]
struct Group {
    /// Whether its consumer was created by us.
    created: bool,
    history: Arc<History>,
}

/// A connection that subscribers share; one per runtime, so that no message hops between threads.
#[derive(Debug)]
struct Consuming {
    client: Client,
    connects: watch::Receiver<u64>,
    runtime: tokio::runtime::Id,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        self.closed.cancel();
    }
}

impl Nats {
    /// Connects, and creates the stream or makes sure that the one that is there has these settings.
    ///
    /// # Errors
    /// [`QueueError::Setting`] for an impossible setting, [`QueueError::Unreachable`] when no server answers
    /// in time, [`QueueError::Clash`] when the stream exists with other settings, else
    /// [`QueueError::Failed`].
    pub async fn open(config: NatsConfig) -> Result<Self, QueueError> {
        config.validate()?;
        let config = Arc::new(config);
        let client = connect::connect(&config, "queuebench-control", 64, Arc::new(|_: &Event| ())).await?;
        settings::check_durability(&config).await?;
        let js = jetstream::new(client);
        let stream_created = stream::ensure_stream(&js, &config).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                counters: Arc::default(),
                js,
                stream_created,
                links: tokio::sync::Mutex::default(),
                next_link: AtomicUsize::new(0),
                consuming: tokio::sync::Mutex::default(),
                groups: Mutex::default(),
                stop: CancellationToken::new(),
                closed: CancellationToken::new(),
                closing: AtomicBool::new(false),
                tasks: TaskTracker::new(),
            }),
        })
    }
}

impl Inner {
    fn refuse_when_closed(&self) -> Result<(), QueueError> {
        if self.closing.load(Relaxed) { Err(QueueError::Closed(BACKEND)) } else { Ok(()) }
    }

    /// The next publishing connection in turn; new ones are opened up to `connections`.
    async fn link(&self) -> Result<Arc<Link>, QueueError> {
        let mut links = self.links.lock().await;
        links.retain(|link| link.is_alive());
        if links.len() < self.config.connections {
            let name = format!("queuebench-publish-{}", links.len());
            let link = Link::open(
                Arc::clone(&self.config),
                name,
                Arc::clone(&self.counters),
                self.stop.child_token(),
            )
            .await?;
            links.push(Arc::clone(&link));
            return Ok(link);
        }
        let local: Vec<_> = links.iter().filter(|link| link.is_local()).collect();
        let turn = self.next_link.fetch_add(1, Relaxed);
        Ok(Arc::clone(if local.is_empty() { &links[turn % links.len()] } else { local[turn % local.len()] }))
    }

    async fn consuming(&self) -> Result<(Client, watch::Receiver<u64>), QueueError> {
        let runtime = tokio::runtime::Handle::current().id();
        let mut consuming = self.consuming.lock().await;
        // The counting end lives in the connection's own task, and goes with it.
        consuming.retain(|c| c.connects.has_changed().is_ok());
        if let Some(there) = consuming.iter().find(|c| c.runtime == runtime) {
            return Ok((there.client.clone(), there.connects.clone()));
        }
        let (count, mut connects) = watch::channel(0);
        let counters = Arc::clone(&self.counters);
        let on_event: OnEvent = Arc::new(move |event: &Event| {
            if matches!(event, Event::Connected) {
                count.send_modify(|n| *n += 1);
                if *count.borrow() > 1 {
                    counters.reconnects.fetch_add(1, Relaxed);
                }
            }
        });
        let client = connect::connect(&self.config, "queuebench-consume", 65_536, on_event).await?;
        // The first connection is told by an event too; it must not pass for a second one later.
        let told = tokio::time::timeout(self.config.request_timeout(), connects.wait_for(|n| *n > 0)).await;
        if !told.is_ok_and(|told| told.is_ok()) {
            return Err(failed("the connection for consuming broke at once"));
        }
        consuming.push(Consuming { client: client.clone(), connects: connects.clone(), runtime });
        Ok((client, connects))
    }
}

impl Queue for Nats {
    type Publisher = NatsPublisher;
    type Subscriber = NatsSubscriber;

    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn promise(&self) -> Promise {
        Promise {
            delivery: DeliveryPromise::AtLeastOnce,
            ordered_per_key: true,
            ordered_among_consumers: true,
            durability: self.inner.config.durability,
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<NatsPublisher, QueueError> {
        self.inner.refuse_when_closed()?;
        let link = self.inner.link().await?;
        Ok(NatsPublisher::new(Arc::clone(&self.inner), link, completions))
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<NatsSubscriber, QueueError> {
        let inner = &self.inner;
        inner.refuse_when_closed()?;
        let group = inner.config.consumer.clone().unwrap_or(options.group);
        if group.is_empty() || group.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c)) {
            return Err(config::setting(
                "group",
                &format!("`{group}` must be a name without white space and without . * > / \\"),
            ));
        }
        if options.prefetch == 0 {
            return Err(config::setting("prefetch", "must be at least 1"));
        }
        let created = stream::ensure_consumer(&inner.js, &inner.config, &group, options.acknowledge).await?;
        let ack_policy = stream::ack_policy(&inner.config, options.acknowledge);
        let history = {
            let mut groups = inner.groups.lock();
            let known = groups.entry(group.clone()).or_default();
            known.created |= created;
            Arc::clone(&known.history)
        };

        let (client, mut connects) = inner.consuming().await?;
        connects.mark_unchanged();
        let inbox_subject = Subject::from(client.new_inbox());
        let inbox = client
            .subscribe(inbox_subject.clone())
            .await
            .map_err(|error| failed(&format!("listening for messages: {}", chain(&error))))?;
        let hand = Arc::new(Hand {
            client,
            counters: Arc::clone(&inner.counters),
            held: AtomicUsize::new(0),
            answered: Notify::new(),
            confirm: inner.config.confirm_acks,
            server_wants_acks: ack_policy == AckPolicy::Explicit,
            history,
            highest: AtomicU64::new(0),
        });
        Ok(NatsSubscriber {
            next_subject: Subject::from(format!("$JS.API.CONSUMER.MSG.NEXT.{}.{group}", inner.config.stream)),
            config: Arc::clone(&inner.config),
            js: inner.js.clone(),
            group,
            hand,
            inbox,
            inbox_subject,
            requested: 0,
            prefetch: options.prefetch,
            on_receipt: options.acknowledge == Acknowledge::OnReceive,
            heard: Instant::now(),
            flowing: false,
            check: subscriber::checks(),
            connects,
            closed: inner.closed.clone(),
            tasks: inner.tasks.clone(),
            runtime: tokio::runtime::Handle::current(),
            finished: false,
        })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let inner = &self.inner;
        let groups: Vec<String> = inner.groups.lock().keys().cloned().collect();
        let mut deepest: Option<Depth> = None;
        for group in groups {
            if let Some(info) = stream::consumer_info(&inner.js, &inner.config, &group).await? {
                let depth = Depth {
                    ready: Some(info.num_pending),
                    unacknowledged: u64::try_from(info.num_ack_pending).ok(),
                };
                deepest = deepest.max_by_total(depth);
            }
        }
        match deepest {
            Some(depth) => Ok(depth),
            None => {
                let info = stream::stream_info(&inner.js, &inner.config.stream).await?;
                Ok(Depth { ready: Some(info.state.messages), unacknowledged: Some(0) })
            }
        }
    }

    fn statistics(&self) -> Statistics {
        self.inner.counters.read(self.inner.config.max_messages)
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        settings::effective(&self.inner.js, &self.inner.config).await
    }

    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        let inner = &self.inner;
        let until = Instant::now() + deadline;
        inner.closing.store(true, Relaxed);
        inner.closed.cancel();
        let links: Vec<_> = inner.links.lock().await.clone();
        for link in &links {
            link.close_intake();
        }
        let open = || inner.counters.in_flight() + inner.counters.in_hand();
        while open() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let outstanding = open();
        for link in &links {
            link.stop(Duration::from_secs(1)).await;
        }
        inner.tasks.close();
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        drop(tokio::time::timeout(left, inner.tasks.wait()).await);
        for consuming in inner.consuming.lock().await.drain(..) {
            drop(tokio::time::timeout(left, consuming.client.flush()).await);
        }
        if outstanding == 0 {
            Ok(())
        } else {
            Err(QueueError::CloseDeadline { backend: BACKEND, outstanding })
        }
    }

    async fn remove(&self) -> Result<(), QueueError> {
        let inner = &self.inner;
        let stream = &inner.config.stream;
        if inner.stream_created {
            inner
                .js
                .delete_stream(stream)
                .await
                .map_err(|error| failed(&format!("deleting stream `{stream}`: {}", chain(&error))))?;
            return Ok(());
        }
        let ours: Vec<String> = inner
            .groups
            .lock()
            .iter()
            .filter(|(_, group)| group.created)
            .map(|(name, _)| name.clone())
            .collect();
        for group in ours {
            inner
                .js
                .delete_consumer_from_stream(&group, stream)
                .await
                .map_err(|error| failed(&format!("deleting consumer `{group}`: {}", chain(&error))))?;
        }
        Ok(())
    }
}

trait MaxByTotal {
    fn max_by_total(self, other: Depth) -> Option<Depth>;
}

impl MaxByTotal for Option<Depth> {
    fn max_by_total(self, other: Depth) -> Option<Depth> {
        Some(match self {
            Some(depth) if depth.total() >= other.total() => depth,
            _ => other,
        })
    }
}
