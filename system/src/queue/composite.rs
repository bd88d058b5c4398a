//! Several queues used as one: every message goes to all of them, every message is received once.
//!
//! Publishing hands a message to all children at the same time; a [`Strategy`] says how many must have it.
//! A message without an id gets one, so that its copies are known as such, and a retry under the same id is
//! no second message. Receiving merges all children and drops copies by id: those in hand are answered
//! together, those that come after the answer are acknowledged at their child. The memory of ids is bounded
//! by [`CompositeConfig::window`]; a copy that lags further behind is delivered again.
//!
//! A child that fails or does not answer is left out and tried again with single messages; with `fail-fast`
//! publishing is refused meanwhile, before any child has the message. Ids are remembered per process:
//! consumers of one group in two processes may each get a copy.
//!
//! Bounds: messages in flight per publisher, messages in hand per subscriber (its prefetch, and as much
//! again at each child), 8 copies of a message in hand, a time limit for every answer.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    Completions, DeliveryPromise, Depth, Promise, Queue, QueueError, Statistics, SubscribeOptions,
    Subscriber, Token,
};
use crate::message::MessageId;

mod counters;
mod delivery;
mod health;
mod merge;
mod publisher;
mod strategy;
mod subscriber;
mod table;
#[cfg(test)]
mod tests;

pub use delivery::CompositeDelivery;
pub use publisher::CompositePublisher;
pub use strategy::{Answers, ChildSet, Strategy};
pub use subscriber::CompositeSubscriber;

use counters::Counters;
use health::Health;
use merge::Merge;
use strategy::MAX_CHILDREN;
use table::{Common, Table};

const BACKEND: &str = "composite";

/// What is left of a closing queue's time for a child when those before it used it up.
const LEAST_CLOSE: Duration = Duration::from_millis(100);

type ChildDelivery<Q> = <<Q as Queue>::Subscriber as Subscriber>::Delivery;

/// Settings of a [`Composite`]. `C` is the settings of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompositeConfig<C> {
    /// The children, 2 to 16, in the order in which they are opened and closed.
    pub children: Vec<C>,
    /// How many children must have a message.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many processed messages are remembered to recognise late copies; per group. Default 65,536.
    #[serde(default = "defaults::window")]
    pub window: usize,
    /// The most messages without an answer of some child, per publisher. Default 4,096.
    #[serde(default = "defaults::max_in_flight")]
    pub max_in_flight: u32,
    /// A child that has not answered for so long is taken for down, and its answer for unknown. Default
    /// 10,000.
    #[serde(default = "defaults::answer_timeout_ms")]
    pub answer_timeout_ms: u64,
    /// How long a child that is down is left out before it is tried again. Default 1,000.
    #[serde(default = "defaults::retry_after_ms")]
    pub retry_after_ms: u64,
}

mod defaults {
    pub(super) fn window() -> usize {
        65_536
    }

    pub(super) fn max_in_flight() -> u32 {
        4_096
    }

    pub(super) fn answer_timeout_ms() -> u64 {
        10_000
    }

    pub(super) fn retry_after_ms() -> u64 {
        1_000
    }
}

impl<C> CompositeConfig<C> {
    /// The defaults over these children.
    pub fn new(children: Vec<C>) -> Self {
        Self {
            children,
            strategy: Strategy::default(),
            window: defaults::window(),
            max_in_flight: defaults::max_in_flight(),
            answer_timeout_ms: defaults::answer_timeout_ms(),
            retry_after_ms: defaults::retry_after_ms(),
        }
    }

    /// Refuses what cannot work, children aside.
    ///
    /// # Errors
    /// The first impossible setting.
    pub fn validate(&self) -> Result<(), QueueError> {
        let setting =
            |setting, reason: String| Err(QueueError::Setting { backend: BACKEND, setting, reason });
        let count = self.children.len();
        if !(2..=MAX_CHILDREN).contains(&count) {
            return setting("children", format!("there are {count}; a composite has 2 to {MAX_CHILDREN}"));
        }
        for (name, value) in [
            ("window", self.window as u64),
            ("max_in_flight", u64::from(self.max_in_flight)),
            ("answer_timeout_ms", self.answer_timeout_ms),
            ("retry_after_ms", self.retry_after_ms),
        ] {
            if value == 0 {
                return setting(name, "must be at least 1".to_owned());
            }
        }
        Ok(())
    }
}

/// The fate of a message that some children have and others have not, or may not.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The publisher's name for it.
    pub token: Token,
    /// Its id; publishing it again under this id completes it.
    pub id: MessageId,
    /// Which child said what, by its place in [`Composite::children`].
    pub answers: Answers,
}

/// Is told which children have a message, when not all do.
pub trait Partials: Send + Sync + 'static {
    /// Called once for such a message, when every child has answered or was given up. Must not block.
    fn partial(&self, partial: &Partial);
}

/// Several queues used as one.
#[derive(Debug)]
pub struct Composite<Q: Queue> {
    inner: Arc<Inner<Q>>,
}

#[derive(Debug)]
struct Settings {
    window: usize,
    max_in_flight: u32,
    answer_timeout: Duration,
    retry_after: Duration,
}

struct Inner<Q: Queue> {
    /// Name and queue.
    children: Vec<(String, Q)>,
    settings: Settings,
    common: Common,
    groups: Mutex<HashMap<String, Arc<Merge<ChildDelivery<Q>>>>>,
    tables: Mutex<Vec<Weak<Table>>>,
    closed: AtomicBool,
    /// Ends all tasks.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<Q: Queue> std::fmt::Debug for Inner<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let children: Vec<_> = self.children.iter().map(|(name, _)| name).collect();
        f.debug_struct("Inner")
            .field("children", &children)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<Q: Queue> Drop for Composite<Q> {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl<Q: Queue> Composite<Q> {
    /// Checks the settings, then opens the children in their order with `open`. If one fails, those opened
    /// before it are closed again, the last first.
    ///
    /// # Errors
    /// An impossible setting, or why a child could not be opened.
    pub async fn open<C, F>(config: CompositeConfig<C>, open: impl Fn(C) -> F) -> Result<Self, QueueError>
    where
        F: Future<Output = Result<Q, QueueError>>,
    {
        config.validate()?;
        let CompositeConfig { children, strategy, window, max_in_flight, answer_timeout_ms, retry_after_ms } =
            config;
        let settings = Settings {
            window,
            max_in_flight,
            answer_timeout: Duration::from_millis(answer_timeout_ms),
            retry_after: Duration::from_millis(retry_after_ms),
        };
        let mut opened: Vec<(String, Q)> = Vec::new();
        for child in children {
            match open(child).await {
                Ok(queue) => {
                    let name = unused_name(&opened, queue.backend());
                    opened.push((name, queue));
                }
                Err(error) => {
                    for (name, queue) in opened.iter().rev() {
                        if let Err(close) = queue.close(settings.answer_timeout).await {
                            tracing::warn!(child = name, error = %close, "closing after a sibling failed");
                        }
                    }
                    return Err(error);
                }
            }
        }
        let count = opened.len();
        Ok(Self {
            inner: Arc::new(Inner {
                common: Common {
                    children: count,
                    strategy,
                    counters: Arc::new(Counters::default()),
                    health: Arc::new(Health::new(count, settings.retry_after)),
                    partials: Arc::new(OnceLock::new()),
                },
                children: opened,
                settings,
                groups: Mutex::new(HashMap::new()),
                tables: Mutex::new(Vec::new()),
                closed: AtomicBool::new(false),
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// The children's names, in order: the backend's, numbered from the second of a kind on.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.inner.children.iter().map(|(name, _)| name.as_str())
    }

    /// Reports messages that only some children have. False: somebody is told already.
    pub fn report_partials(&self, to: Arc<dyn Partials>) -> bool {
        self.inner.common.partials.set(to).is_ok()
    }
}

fn unused_name<Q>(taken: &[(String, Q)], backend: &str) -> String {
    let is_free = |name: &str| taken.iter().all(|(other, _)| other != name);
    let numbered = (2..).map(|number| format!("{backend}-{number}"));
    std::iter::once(backend.to_owned()).chain(numbered).find(|name| is_free(name)).unwrap_or_default()
}

impl<Q: Queue> Inner<Q> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn merge(&self, group: &str) -> Arc<Merge<ChildDelivery<Q>>> {
        let mut groups = self.groups.lock();
        let merge =
            groups.entry(group.to_owned()).or_insert_with(|| Arc::new(Merge::new(self.settings.window)));
        Arc::clone(merge)
    }

    fn register(&self, table: &Arc<Table>) {
        let mut tables = self.tables.lock();
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Arc::downgrade(table));
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn names(&self, of: ChildSet) -> String {
        of.iter().map(|child| self.children[child].0.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn say_down(&self, children: ChildSet) -> String {
        format!("down, and tried again within {:?}: {}", self.settings.retry_after, self.names(children))
    }

    fn unreachable(&self, reason: &str) -> QueueError {
        QueueError::Unreachable {
            backend: BACKEND,
            address: self.names(ChildSet::all(self.children.len())),
            waited: self.settings.answer_timeout,
            reason: reason.to_owned(),
        }
    }
}

impl<Q: Queue> Queue for Composite<Q> {
    type Publisher = CompositePublisher<Q>;
    type Subscriber = CompositeSubscriber<Q>;

    fn backend(&self) -> &'static str {
        BACKEND
    }

    /// At least once, as durable as the strategy makes sure that one child is. Order is promised where
    /// every acknowledged message is in every child and every child promises it, and only to a group's
    /// single consumer: the children hand a key's messages to different consumers, so a later message's
    /// first copy may reach one consumer before an earlier message's reaches it from the other child.
    fn promise(&self) -> Promise {
        let Inner { children, common, .. } = &*self.inner;
        let needed = common.strategy.needed(children.len());
        let mut durabilities: Vec<_> = children.iter().map(|(_, queue)| queue.promise().durability).collect();
        durabilities.sort_unstable();
        Promise {
            delivery: DeliveryPromise::AtLeastOnce,
            ordered_per_key: needed == children.len()
                && children.iter().all(|(_, queue)| queue.promise().ordered_per_key),
            ordered_among_consumers: false,
            durability: durabilities[needed - 1],
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<Self::Publisher, QueueError> {
        if self.inner.is_closed() {
            return Err(QueueError::Closed(BACKEND));
        }
        CompositePublisher::open(&self.inner, completions).await
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<Self::Subscriber, QueueError> {
        if self.inner.is_closed() {
            return Err(QueueError::Closed(BACKEND));
        }
        CompositeSubscriber::open(&self.inner, options).await
    }

    /// The longest backlog of all children, less what consumers hold. A child that does not say is left out.
    async fn depth(&self) -> Result<Depth, QueueError> {
        let Inner { children, common, .. } = &*self.inner;
        let in_hand = common.counters.in_hand();
        let mut longest = None;
        let mut failure = None;
        for depth in join_all(children.iter().map(|(_, queue)| queue.depth())).await {
            match depth {
                Ok(depth) => longest = longest.max(depth.total().or(depth.ready)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (longest, failure) {
            (None, Some(error)) => Err(error),
            (longest, _) => Ok(Depth {
                ready: longest.map(|longest: u64| longest.saturating_sub(in_hand)),
                unacknowledged: Some(in_hand),
            }),
        }
    }

    /// Logical messages; `deduplicated` counts copies that were not delivered.
    fn statistics(&self) -> Statistics {
        let Inner { children, common, .. } = &*self.inner;
        let children: Vec<_> =
            children.iter().map(|(name, queue)| (name.clone(), queue.statistics())).collect();
        // Where all children are needed, the smallest is the bound.
        let capacity = match common.strategy {
            Strategy::FailFast => children.iter().filter_map(|(_, child)| child.capacity).min(),
            Strategy::BestEffort | Strategy::Quorum => None,
        };
        let reconnects = children.iter().map(|(_, child)| child.reconnects).sum();
        Statistics { capacity, reconnects, children, ..common.counters.snapshot() }
    }

    /// Each child's settings, under its name.
    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        let mut all = BTreeMap::new();
        for (name, queue) in &self.inner.children {
            let settings = queue.effective_settings().await?;
            all.extend(settings.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
        }
        Ok(all)
    }

    /// Waits for outcomes, then closes the children one after the other in their order, all of them
    /// whatever happens, and tells the first error.
    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        let inner = &self.inner;
        let until = Instant::now() + deadline;
        inner.closed.store(true, Ordering::Release);
        let tables = inner.tables();
        let settling = join_all(tables.iter().map(|table| table.settle()));
        // What is undecided at the deadline is decided below.
        let _ = tokio::time::timeout_at(until, settling).await;
        let mut first = Ok(());
        for (name, queue) in &inner.children {
            let left = until.saturating_duration_since(Instant::now()).max(LEAST_CLOSE.min(deadline));
            if let Err(error) = queue.close(left).await {
                tracing::warn!(child = name, %error, "closing a child");
                if first.is_ok() {
                    first = Err(error);
                }
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        let left = until.saturating_duration_since(Instant::now()).max(LEAST_CLOSE);
        if tokio::time::timeout(left, inner.tasks.wait()).await.is_err() {
            tracing::warn!("a task of the composite is still ending");
        }
        for table in tables {
            // Children report every outcome before they are closed; one that did not is not waited for.
            table.sweep(0);
            table.sweep(0);
        }
        first
    }

    async fn remove(&self) -> Result<(), QueueError> {
        let mut first = Ok(());
        for (_, queue) in &self.inner.children {
            first = first.and(queue.remove().await);
        }
        first
    }
}
