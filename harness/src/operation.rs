//! Trials of subjects that are *operated on*: every slot of the plan is one operation with an answer, and
//! nobody else receives anything.
//!
//! The same profile, plan, phases, recorders and record as for queues: an open phase starts slot *n* when it
//! is due, a closed one keeps a fixed number of operations in flight. A worker (`workload.producers` of them)
//! is a thread with a runtime of its own, in which its connections live; it paces, sends, reads the answers
//! and stamps them, so no hop between threads stands in a latency. Operations in flight are bounded by the
//! phase's `in_flight`, each in a *lane* that does one at a time: a lane is a sequential client.
//!
//! A subject implements [`Operate`] and [`Worker`]; [`run`] does the rest. Each operation must end by itself
//! within a deadline of the subject's own; what has not ended when a phase is over by
//! [`SETTLE_DEADLINE`] is dropped and counted as unknown.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use queuebench_reports::record::{Delivery, DeliveryVerdict, Phase, Promise};
use tokio_util::sync::CancellationToken;

use crate::clock::Nanos;
use crate::event::Event;
use crate::plan::Plan;
use crate::trial::{TrialError, TrialOutcome, TrialSpec};

mod alarm;
mod coordinator;
mod lanes;
mod worker;

#[cfg(test)]
mod tests;

/// How long a phase waits for operations in flight after its last slot.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered as the subject should, whatever the answer was.
    Done,
    /// Certainly not done.
    Refused,
    /// May or may not have been done.
    Unknown,
}

/// One operation of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which phase, from 0.
    pub phase: usize,
    /// Place in the phase's plan of this shard; two workers never get the same.
    pub slot: u64,
    /// Which of the worker's lanes does it, from 0; a lane does one operation at a time.
    pub lane: u32,
    /// When it is due; in a closed phase, when it is started.
    pub due: Nanos,
}

/// A subject that is operated on.
pub trait Operate: Send + Sync + 'static {
    /// What lives on a worker's thread.
    type Worker: Worker;

    /// Connects worker `index` of a trial, which has up to `lanes` operations in flight. Called on the
    /// worker's own thread, within a local task set.
    fn worker(&self, index: u16, lanes: u32) -> impl Future<Output = Result<Self::Worker, String>>;
}

/// One worker's side of a subject; never leaves its thread.
pub trait Worker: 'static {
    /// What remains of it after the trial, a recorded history for instance.
    type Leaves: Send + 'static;

    /// Does one operation and tells how it ended. Runs beside up to `lanes - 1` others.
    fn operate(&self, operation: Operation) -> impl Future<Output = Outcome>;

    /// Disconnects.
    fn leave(self) -> Self::Leaves;
}

/// What a trial leaves: the record so far, and what each worker left.
#[derive(Debug)]
pub struct OperationOutcome<L> {
    /// The record, with counts in its `delivery` and no violation yet: that is the subject's to judge.
    pub trial: TrialOutcome,
    /// In the order of the workers.
    pub leaves: Vec<L>,
}

/// Runs a trial to its end, or until `stop`: then it is marked partial.
///
/// # Errors
/// When a worker cannot connect. What a subject refuses or leaves unanswered is a result.
pub fn run<O: Operate>(
    subject: &Arc<O>,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> Result<OperationOutcome<<O::Worker as Worker>::Leaves>, TrialError> {
    coordinator::run(subject, plan, spec, stop, events)
}

/// The counts of all phases, as a delivery in which nothing is owed to a receiver.
fn counts(phases: &[Phase], attempted: u64) -> Delivery {
    Delivery {
        attempted,
        acknowledged: phases.iter().map(|phase| phase.response_us.count).sum(),
        rejected: phases.iter().map(|phase| phase.errors).sum(),
        unknown: phases.iter().map(|phase| phase.unknown).sum(),
        received: 0,
        lost: 0,
        duplicated: 0,
        reordered: 0,
        corrupted: 0,
        stray: 0,
        reordered_redelivered: 0,
        resurrected: 0,
        drain_deadline_passed: false,
        promise: Promise { delivery: "answered-once".to_owned(), ordered_per_key: false },
        verdict: DeliveryVerdict::Kept,
        violations: Vec::new(),
    }
}
