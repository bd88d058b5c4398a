//! One worker: a thread that paces, operates and records.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::alarm::Alarm;
use super::lanes::Lanes;
use super::{Operate, Operation, Outcome, SETTLE_DEADLINE, Worker};
use crate::clock::{self, Nanos};
use crate::ledger::ProducerLedger;
use crate::plan::Plan;
use crate::recorder::{AckRecorder, Progress, SendRecorder, WindowClock, Windows};
use crate::trial::TrialError;
use crate::trial::parts::{PhaseOrder, ProducerResult};

/// After so many answers the recent percentile is told to the coordinator.
const TELL_EVERY: u64 = 128;

/// What the coordinator reads while the load runs.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) sent: Progress,
    pub(super) settled: Progress,
    /// Response, 95th percentile of the current window; 0 before the first.
    pub(super) p95_ns: AtomicU64,
}

/// The coordinator's end of a worker.
pub(super) struct WorkerHandle<L> {
    pub(super) orders: mpsc::Sender<(PhaseOrder, oneshot::Sender<Result<(), TrialError>>)>,
    pub(super) live: Arc<Live>,
    pub(super) thread: JoinHandle<Result<(ProducerResult, L), TrialError>>,
}

/// What a worker is made of.
#[derive(Debug)]
pub(super) struct WorkerSpec {
    /// Unique over all shards.
    pub(super) id: u16,
    /// Place among the workers of this shard.
    pub(super) index: u16,
    /// How many workers share the plan of this shard.
    pub(super) of: u16,
    /// The most operations in flight in any phase.
    pub(super) lanes: u32,
    pub(super) windows: WindowClock,
}

type Leaves<O> = <<O as Operate>::Worker as Worker>::Leaves;

/// Starts a worker; it is ready when `ready` has answered.
pub(super) fn start<O: Operate>(
    subject: Arc<O>,
    plan: Arc<Plan>,
    spec: WorkerSpec,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> std::io::Result<WorkerHandle<Leaves<O>>> {
    let live = Arc::new(Live::default());
    let (orders, inbox) = mpsc::channel(1);
    let thread = {
        let live = Arc::clone(&live);
        std::thread::Builder::new().name(format!("worker-{}", spec.id)).spawn(move || {
            clock::sharpen_this_thread();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, work(subject, plan, spec, live, inbox, ready))
        })?
    };
    Ok(WorkerHandle { orders, live, thread })
}

/// What the operations of a worker share.
struct Shared<W> {
    worker: W,
    send: RefCell<SendRecorder>,
    ack: RefCell<AckRecorder>,
    attempted: Cell<u64>,
    live: Arc<Live>,
}

async fn work<O: Operate>(
    subject: Arc<O>,
    plan: Arc<Plan>,
    spec: WorkerSpec,
    live: Arc<Live>,
    mut inbox: mpsc::Receiver<(PhaseOrder, oneshot::Sender<Result<(), TrialError>>)>,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> Result<(ProducerResult, Leaves<O>), TrialError> {
    let failed = |reason: String| TrialError::Publish { producer: spec.id, reason };
    let worker = match timeout(SETTLE_DEADLINE, subject.worker(spec.id, spec.lanes)).await {
        Ok(Ok(worker)) => worker,
        Ok(Err(reason)) => {
            let _ = ready.send(Err(failed(reason.clone())));
            return Err(failed(reason));
        }
        Err(_) => {
            let error =
                || TrialError::NotReady { what: "connect a worker".to_owned(), waited: SETTLE_DEADLINE };
            let _ = ready.send(Err(error()));
            return Err(error());
        }
    };
    let phases = plan.phases.len();
    let windows = || Windows::new(spec.windows.clone());
    let shared = Rc::new(Shared {
        worker,
        send: RefCell::new(SendRecorder::new(phases, windows())),
        ack: RefCell::new(AckRecorder::new(phases, windows())),
        attempted: Cell::new(0),
        live,
    });
    let _ = ready.send(Ok(()));
    while let Some((order, done)) = inbox.recv().await {
        let mut tasks = JoinSet::new();
        let result = match &plan.phases[usize::from(order.index)].schedule {
            Some(_) => open_phase(&shared, &plan, &order, &mut tasks).await.map_err(TrialError::from),
            None => {
                closed_phase(&shared, &order, &spec, &mut tasks);
                Ok(())
            }
        };
        // A closed phase lasts until its end; then, as in an open one, every outcome is awaited, so that
        // phases do not bleed into each other.
        let left = order.end.saturating_sub(clock::now());
        let patience = std::time::Duration::from_nanos(if tasks.is_empty() { 0 } else { left });
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(patience + SETTLE_DEADLINE, all).await.is_err() {
            tasks.shutdown().await;
        }
        shared.abandon(usize::from(order.index));
        if done.send(result).is_err() {
            break;
        }
    }
    let Some(shared) = Rc::into_inner(shared) else {
        return Err(TrialError::Panicked(format!("worker-{}", spec.id)));
    };
    let mut ledger = ProducerLedger::default();
    ledger.set_attempted(shared.attempted.get());
    let result =
        ProducerResult { id: spec.id, send: shared.send.into_inner(), ack: shared.ack.into_inner(), ledger };
    Ok((result, shared.worker.leave()))
}

impl<W: Worker> Shared<W> {
    async fn one(&self, phase: u16, slot: u64, lane: u32, due: Option<Nanos>) {
        let phase = usize::from(phase);
        let sent = clock::now();
        let due = due.unwrap_or(sent);
        self.send.borrow_mut().send(phase, due, sent);
        self.attempted.set(self.attempted.get() + 1);
        Progress::add(&self.live.sent.done, 1);
        let outcome = self.worker.operate(Operation { phase, slot, lane, due }).await;
        let now = clock::now();
        let mut ack = self.ack.borrow_mut();
        match outcome {
            Outcome::Done => {
                ack.acknowledge(phase, due, sent, now);
                Progress::add(&self.live.settled.done, 1);
            }
            Outcome::Refused => {
                ack.reject(phase, now);
                Progress::add(&self.live.settled.failed, 1);
            }
            Outcome::Unknown => {
                ack.unknown[phase] += 1;
                Progress::add(&self.live.settled.unknown, 1);
            }
        }
        if Progress::read(&self.live.settled.done).is_multiple_of(TELL_EVERY) {
            self.live.p95_ns.store(ack.windows.recent_p95_ns().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// What was sent in a phase and has neither ended nor will, counts as unknown.
    fn abandon(&self, phase: usize) {
        let mut ack = self.ack.borrow_mut();
        let ended = ack.response[phase].len() + ack.rejected[phase] + ack.unknown[phase];
        let open = self.send.borrow().sent[phase].saturating_sub(ended);
        ack.unknown[phase] += open;
        Progress::add(&self.live.settled.unknown, open);
    }
}

/// As fast as it goes: one task per lane.
fn closed_phase<W: Worker>(
    shared: &Rc<Shared<W>>,
    order: &PhaseOrder,
    spec: &WorkerSpec,
    tasks: &mut JoinSet<()>,
) {
    let next = Rc::new(Cell::new(u64::from(spec.index)));
    let step = u64::from(spec.of);
    for lane in 0..order.in_flight.min(spec.lanes) {
        let (shared, order, next) = (Rc::clone(shared), order.clone(), Rc::clone(&next));
        tasks.spawn_local(async move {
            while clock::now() < order.end && !order.stopped.load(Ordering::Relaxed) {
                let slot = next.get();
                next.set(slot + step);
                shared.one(order.index, slot, lane, None).await;
                // A subject that answers at once must not starve the other lanes.
                tokio::task::coop::consume_budget().await;
            }
        });
    }
}

/// On schedule: each operation in the first free lane.
async fn open_phase<W: Worker>(
    shared: &Rc<Shared<W>>,
    plan: &Plan,
    order: &PhaseOrder,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<()> {
    let phase = &plan.phases[usize::from(order.index)];
    let Some(schedule) = &phase.schedule else { return Ok(()) };
    let alarm = Alarm::new(order.pacing)?;
    let lanes = Rc::new(Lanes::new(order.in_flight));
    let stopped = || order.stopped.load(Ordering::Relaxed);
    loop {
        let slot = order.next_slot.fetch_add(1, Ordering::Relaxed);
        if slot >= schedule.slots() {
            return Ok(());
        }
        let due = order.start + schedule.due_ns(slot);
        let now = alarm.until(due, stopped).await?;
        if stopped() || now >= order.end {
            // This slot and all later ones stay unsent, which the phase reports.
            return Ok(());
        }
        let lane = match lanes.try_take() {
            Some(lane) => lane,
            None => {
                shared.send.borrow_mut().blocked[usize::from(order.index)] += 1;
                lanes.take().await
            }
        };
        let (shared, lanes, index) = (Rc::clone(shared), Rc::clone(&lanes), order.index);
        tasks.spawn_local(async move {
            shared.one(index, slot, lane, Some(due)).await;
            lanes.give_back(lane);
        });
        // Finished ones are taken out now and then, so that the set stays as small as what is in flight.
        while tasks.try_join_next().is_some() {}
        // Overdue slots must not keep the answers waiting.
        tokio::task::coop::consume_budget().await;
    }
}
