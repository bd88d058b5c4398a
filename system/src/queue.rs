//! The trait family that every queue backend implements, and that a user implements for a backend of
//! their own.
//!
//! A [`Queue`] hands out [`Publisher`]s and [`Subscriber`]s. Publishing has two moments: the client accepts
//! the message ([`Publisher::publish`] returns), and later its fate is known ([`Outcome`]). The second one
//! is reported to a [`Completions`] sink under the caller's [`Token`], on the thread that received the
//! answer; [`producer::Producer`] turns that into a future per message for callers who prefer one. Neither form
//! allocates per message, and no future is boxed.
//!
//! Delivery is at least once unless a backend's [`Promise`] says otherwise: a [`Delivery`] that is neither
//! acknowledged nor given back is delivered again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub mod any;
pub mod composite;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod outcome;
pub mod producer;
mod statistics;

pub use any::{AnyQueue, SingleQueue};
pub use composite::{Composite, CompositeConfig};
pub use config::QueueConfig;
pub use error::{AckError, PublishError, QueueError, SubscribeError};
pub use memory::{Memory, MemoryConfig};
pub use outcome::{Outcome, RejectReason, Submitted, Token, UnknownReason};
pub use producer::{Acknowledgement, Producer};
pub use statistics::{Depth, Statistics};

use crate::message::Message;

/// One queue (a stream, a topic, a buffer) of one backend, with its settings applied and verified.
pub trait Queue: Send + Sync + 'static {
    /// What sends.
    type Publisher: Publisher;
    /// What receives.
    type Subscriber: Subscriber;

    /// The kind of backend: `memory`, `nats`, `kafka`, `composite`, or a user's own word.
    fn backend(&self) -> &'static str;

    /// What this queue, as configured, promises about delivery and order.
    fn promise(&self) -> Promise;

    /// A new publisher whose outcomes go to `completions`. Background work (connection, acknowledgement
    /// reader) runs on the tokio runtime this is called on, or on the backend's own threads.
    fn publisher(
        &self,
        completions: Arc<dyn Completions>,
    ) -> impl Future<Output = Result<Self::Publisher, QueueError>> + Send;

    /// A new subscriber. Subscribers of one group share the messages; every group gets them all.
    fn subscriber(
        &self,
        options: SubscribeOptions,
    ) -> impl Future<Output = Result<Self::Subscriber, QueueError>> + Send;

    /// Messages waiting and messages delivered but not yet acknowledged, as the backend itself counts them.
    fn depth(&self) -> impl Future<Output = Result<Depth, QueueError>> + Send;

    /// Counters of this client since it was opened; for a composite also each child's.
    fn statistics(&self) -> Statistics;

    /// What the server says of its version and of the settings that decide durability and limits, as
    /// evidence for a report: quoted from the server, not from our configuration.
    fn effective_settings(&self)
    -> impl Future<Output = Result<BTreeMap<String, String>, QueueError>> + Send;

    /// Stops intake at once, waits until every accepted message has an outcome and what was delivered is
    /// acknowledged or given back, at most `deadline` long; then disconnects. Idempotent.
    ///
    /// # Errors
    /// [`QueueError::CloseDeadline`] when something was still open at the deadline; the queue is closed
    /// all the same.
    fn close(&self, deadline: Duration) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Deletes what opening this queue created on the server (stream, topic). Data that was there before
    /// is left alone.
    fn remove(&self) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// The sending side. A clone shares the connection and the completions sink.
pub trait Publisher: Clone + Send + Sync + 'static {
    /// Hands one message to the client. Returns [`Submitted::Acknowledged`] where the fate is known at
    /// once (the sink is then not called), else [`Submitted::Pending`]: the sink is called exactly once
    /// with `token`. Waits only for room in the client's own bounded buffer.
    fn publish(
        &self,
        message: Message,
        token: Token,
    ) -> impl Future<Output = Result<Submitted, PublishError>> + Send;

    /// Hands over the messages from the front of `batch` in order, for as long as they are accepted, and
    /// leaves the others in it. Each goes on as if published alone: one failed message fails alone.
    /// Tokens whose fate is known at once are reported to the sink as well.
    /// Returns how many were accepted, at least one unless `batch` is empty; dropping the future loses no
    /// message that was not accepted.
    ///
    /// # Errors
    /// The message at the front was not accepted, and stays there. A refusal further back is no error yet:
    /// it is when that message is at the front.
    fn publish_batch(
        &self,
        batch: &mut std::collections::VecDeque<(Message, Token)>,
    ) -> impl Future<Output = Result<usize, PublishError>> + Send;

    /// Waits until every message accepted so far has its outcome, at most `deadline`; returns how many
    /// have none.
    fn flush(&self, deadline: Duration) -> impl Future<Output = usize> + Send;
}

/// The receiving side; one owner.
pub trait Subscriber: Send + 'static {
    /// What is handed out.
    type Delivery: Delivery;

    /// The next message; waits for one. A batch of one, unless a backend has a cheaper way.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`] when the queue was closed and nothing is left.
    fn recv(&mut self) -> impl Future<Output = Result<Self::Delivery, SubscribeError>> + Send {
        async {
            let mut one = Vec::with_capacity(1);
            self.recv_batch(1, &mut one).await?;
            Ok(one.pop().expect("a batch of one holds one"))
        }
    }

    /// Waits for one message, then takes those that are already here, up to `max` in all, and appends
    /// them. Cancel-safe: a message is either appended or still in the queue.
    fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<Self::Delivery>,
    ) -> impl Future<Output = Result<usize, SubscribeError>> + Send;
}

/// A message in a consumer's hands. Dropping it without an answer gives it back for redelivery, as soon as
/// the backend can (memory: at once; NATS: after the ack wait; Kafka: after a rebalance or restart).
pub trait Delivery: Send + 'static {
    /// What was delivered.
    fn message(&self) -> &Message;

    /// Takes the message out, for instance to give it to a worker; the answer is still owed.
    fn take_message(&mut self) -> Message;

    /// Which delivery of this message this is, counted from 1, where the backend knows.
    fn attempt(&self) -> Option<u32>;

    /// Whether it was delivered before, or may have been: such a message can come after later ones of its key
    /// without a promise being broken.
    fn redelivered(&self) -> bool {
        self.attempt().is_some_and(|attempt| attempt > 1)
    }

    /// Processed: do not deliver again.
    fn ack(self) -> impl Future<Output = Result<(), AckError>> + Send;

    /// Not processed: deliver again, not before `delay` where the backend can wait.
    fn nack(self, delay: Duration) -> impl Future<Output = Result<(), AckError>> + Send;
}

/// Receives the fate of published messages, on the thread that learned of it. Must not block.
pub trait Completions: Send + Sync + 'static {
    /// Called exactly once for every token that was [`Submitted::Pending`].
    fn complete(&self, token: Token, outcome: Outcome);
}

/// Who subscribes and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Subscribers of the same group share the messages.
    pub group: String,
    /// The most messages that this subscriber holds unacknowledged (delivered or prefetched).
    pub prefetch: usize,
    /// When a message counts as processed.
    pub acknowledge: Acknowledge,
}

/// When a delivered message counts as processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// When the consumer says so: at least once.
    Explicit,
    /// When it is handed out: at most once, and cheaper.
    OnReceive,
}

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Nothing: the message lives in the memory of this process.
    Volatile,
    /// The death of the server process: the message is in the operating system's page cache.
    ProcessCrash,
    /// The loss of power: the message was flushed to the disk before it was acknowledged.
    PowerLoss,
}

/// What a queue, as configured, promises. A broken promise is a violation; anything else is a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Promise {
    /// How often an acknowledged message arrives.
    pub delivery: DeliveryPromise,
    /// Whether messages of one producer and key arrive at a group's only consumer in the order in which
    /// they were sent. One that is [redelivered](Delivery::redelivered) may come later.
    pub ordered_per_key: bool,
    /// Whether that also holds for what each of several consumers of a group receives.
    pub ordered_among_consumers: bool,
    /// What the acknowledgement survives.
    pub durability: Durability,
}

/// How often an acknowledged message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryPromise {
    /// Once or never.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}
