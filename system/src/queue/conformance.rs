//! What every queue backend must do, as one suite that any backend's tests can run, a user's own included.
//!
//! Write a [`Factory`] that opens fresh queues and says what the backend can do, then call [`run_all`], or
//! [`run_all_disturbed`] with a closure that restarts the broker:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use queuebench_system::queue::{Memory, MemoryConfig, QueueError};
//! use queuebench_system::message::Message;
//! use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
//!
//! struct Memories;
//!
//! impl Factory for Memories {
//!     type Queue = Memory<Message>;
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { full: Full::Rejects, ..Capabilities::plain(Duration::from_secs(5)) }
//!     }
//!
//!     async fn open(&self, wanted: Wanted) -> Result<Self::Queue, QueueError> {
//!         Memory::open(MemoryConfig { capacity: wanted.capacity.unwrap_or(10_000), ..Default::default() })
//!     }
//! }
//!
//! # async fn run() {
//! conformance::run_all(&Memories).await.assert_passed();
//! # }
//! ```
//!
//! Each case is also a function of its own. Every wait has a deadline ([`Capabilities::patience`]); a case
//! that fails, hangs or panics is reported by name and the others still run.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use super::{Queue, QueueError};

mod delivery;
mod lifecycle;
mod limits;
mod outage;
mod report;
mod sharing;
mod support;

pub use delivery::{
    batches, cancelled_receive, empty_payload, ordering_per_key, redelivery_after_crash,
    redelivery_after_nack, unicode,
};
pub use lifecycle::{
    close_during_publish, depth_follows, publish_after_close, receive_after_close, statistics_add_up,
};
pub use limits::{full_queue, payload_limit};
pub use outage::broker_restart;
pub use report::{CaseResult, Failure, Report, Verdict};
pub use sharing::{two_consumers_share, two_groups_each_get_all};

/// Opens the queues that the suite works on.
pub trait Factory {
    /// The backend under test.
    type Queue: Queue;

    /// What the backend, as [`open`](Self::open) configures it, can do.
    fn capabilities(&self) -> Capabilities;

    /// An empty queue that shares nothing with those opened before: a new stream, a new topic. The suite
    /// closes and removes it.
    fn open(&self, wanted: Wanted) -> impl Future<Output = Result<Self::Queue, QueueError>> + Send;
}

/// What a case needs of its queue.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The case's name, of letters and underscores; part of a good stream or topic name.
    pub case: &'static str,
    /// The number of messages after which the queue must be full; no case but [`full_queue`] asks for one.
    pub capacity: Option<usize>,
}

/// What a backend can do; a case about something that it cannot do is skipped and says so.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The largest payload that is accepted, if there is such a limit.
    pub max_payload_bytes: Option<usize>,
    /// What happens at [`Wanted::capacity`].
    pub full: Full,
    /// Several groups can each get all messages.
    pub groups: bool,
    /// A message given back comes again to the same subscriber.
    pub redelivers_after_nack: bool,
    /// A second copy of a message id, published later, is dropped.
    pub deduplicates: bool,
    /// Headers arrive.
    pub headers: bool,
    /// [`Queue::depth`] knows the messages waiting.
    pub depth: bool,
    /// The longest that any single step may take. Must exceed the time after which the backend delivers
    /// an unanswered message of a lost consumer again.
    pub patience: Duration,
}

impl Capabilities {
    /// A backend that can do everything except limits and deduplication.
    pub fn plain(patience: Duration) -> Self {
        Self {
            max_payload_bytes: None,
            full: Full::Never,
            groups: true,
            redelivers_after_nack: true,
            deduplicates: false,
            headers: true,
            depth: true,
            patience,
        }
    }
}

/// What a full queue does with one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Refuses it: at once ([`Full`](super::PublishError::Full)) or as its outcome.
    Rejects,
    /// Lets the publisher wait for room.
    Waits,
    /// There is no bound that a test could reach.
    Never,
}

/// Runs all cases that need no broker restart, one after the other.
pub async fn run_all<F: Factory>(factory: &F) -> Report {
    let mut report = Report::default();
    macro_rules! run {
        ($($case:ident),* $(,)?) => {
            $(report.add(stringify!($case), guarded(factory.capabilities(), $case(factory)).await);)*
        };
    }
    run!(
        ordering_per_key,
        redelivery_after_crash,
        redelivery_after_nack,
        cancelled_receive,
        empty_payload,
        unicode,
        batches,
        full_queue,
        payload_limit,
        two_consumers_share,
        two_groups_each_get_all,
        statistics_add_up,
        depth_follows,
        close_during_publish,
        publish_after_close,
        receive_after_close,
    );
    report
}

/// [`run_all`], then [`broker_restart`] with `disturb`, which must return when the broker is up again.
pub async fn run_all_disturbed<F: Factory>(
    factory: &F,
    disturb: impl AsyncFnOnce() -> Result<(), String>,
) -> Report {
    let mut report = run_all(factory).await;
    let restarted = guarded(factory.capabilities(), broker_restart(factory, disturb)).await;
    report.add("broker_restart", restarted);
    report
}

/// Turns a panic and a hang outside the waits that have deadlines of their own into a failure.
async fn guarded(capabilities: Capabilities, case: impl Future<Output = CaseResult>) -> CaseResult {
    let whole = capabilities.patience * 12;
    match tokio::time::timeout(whole, AssertUnwindSafe(Box::pin(case)).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Failure::panicked(&*panic)),
        Err(_) => Err(Failure::new(format!("the case was not over after {whole:?}"))),
    }
}
