//! One trial: one pass of a profile over one queue, in this process.
//!
//! The coordinator ([`run`]) opens the phases one after another. A producer is an I/O thread with a runtime
//! of its own, in which its client lives and which drives closed phases; in an open phase a pacing thread
//! beside it sends on precise sleeps. A consumer is a thread with a runtime of its own. Latencies are
//! stamped on the thread that received the answer. Nothing is shared while the load runs but single-writer
//! counters, the next open slot, and the table of messages in flight between a producer and its
//! acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use queuebench_system::queue::{Queue, QueueError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Order};
use crate::plan::{Plan, Shard};
use crate::profile::{MessageIds, Profile};

mod assemble;
mod baton;
mod blocks;
mod consumer;
mod coordinator;
mod in_flight;
mod outcome;
mod park;
mod producer;
mod sender;
mod usage;

pub use outcome::{ShardRecord, TrialOutcome};

/// What trials of operated subjects ([`operation`](crate::operation)) share with those of queues.
pub(crate) mod parts {
    pub(crate) use super::assemble::{Collected, PhaseMark, assemble};
    pub(crate) use super::coordinator::seconds;
    pub(crate) use super::producer::{PhaseOrder, ProducerResult};
    pub(crate) use super::usage::OwnUsage;
}

/// What a trial needs to know beside its queue.
#[derive(Clone, Debug)]
pub struct TrialSpec {
    /// Whose trial it is.
    pub subject: String,
    /// The round, from 0.
    pub index: u32,
    /// Place in the order of the round, from 0.
    pub position: u32,
    /// The load.
    pub profile: Arc<Profile>,
    /// Of payloads, keys and arrivals.
    pub seed: u64,
    /// Which part of the plan.
    pub shard: Shard,
    /// In every message, so that another trial's are recognised.
    pub trial_id: u64,
    /// Whether messages carry an id for deduplication.
    pub message_ids: MessageIds,
    /// Whether the subject runs inside this process, so that its CPU is the harness's.
    pub embedded: bool,
}

/// Why a trial ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The queue could not be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A publisher failed for good.
    #[error("producer {producer} cannot go on: {reason}")]
    Publish {
        /// Which one.
        producer: u16,
        /// What its client said.
        reason: String,
    },
    /// A subscriber failed for good.
    #[error("consumer {consumer} of group {group} cannot go on: {reason}")]
    Subscribe {
        /// Which group.
        group: u16,
        /// Which one in it.
        consumer: u16,
        /// What its client said.
        reason: String,
    },
    /// Something that is not load took too long.
    #[error("could not {what} within {waited:?}")]
    NotReady {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A latency fits no histogram.
    #[error("internal error: {0}; please report it")]
    Histogram(#[from] queuebench_reports::histograms::RangeError),
    /// A thread or runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// One of our threads panicked.
    #[error("internal error: the {0} thread panicked; please report it")]
    Panicked(String),
}

/// How long anything may take that is not load: subscribing, flushing, closing.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// Runs a trial to its end, or until `stop`: then it is drained shortly and marked partial.
///
/// # Errors
/// When a client fails for good. What a backend merely refuses or loses is a result.
pub fn run<Q: Queue>(
    queue: &Arc<Q>,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> Result<TrialOutcome, TrialError> {
    run_topics(std::slice::from_ref(queue), plan, spec, stop, None, events)
}

/// The same over several topics, each a queue of its own, and by the orders of a conductor where several
/// shards make one trial.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// When there are not as many queues as the profile has topics.
pub fn run_topics<Q: Queue>(
    topics: &[Arc<Q>],
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    orders: Option<mpsc::Receiver<Order>>,
    events: &mut dyn FnMut(Event),
) -> Result<TrialOutcome, TrialError> {
    assert_eq!(topics.len(), usize::from(spec.profile.workload.topics), "one queue for each topic");
    coordinator::Coordinator::new(topics, plan, spec, stop)?.run(orders, events)
}

#[cfg(test)]
mod tests;
