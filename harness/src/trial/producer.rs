//! A producer: an I/O thread in which its client lives, and in open phases a pacing thread beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use queuebench_system::queue::{Publisher, Queue};
use tokio::sync::{mpsc, oneshot};

use super::park::Parker;
use super::sender::{Due, Sender, Settlement};
use super::{SETTLE_DEADLINE, TrialError, TrialSpec};
use crate::clock::{self, Nanos, Pacing};
use crate::ledger::ProducerLedger;
use crate::plan::Plan;
use crate::recorder::{AckRecorder, Progress, SendRecorder, WindowClock, Windows};

/// A phase, as the coordinator opens it.
#[derive(Clone, Debug)]
pub(crate) struct PhaseOrder {
    pub(crate) index: u16,
    pub(crate) start: Nanos,
    /// When a closed phase ends, and when an open one gives up what is still unsent.
    pub(crate) end: Nanos,
    /// Next open slot of this phase, shared by all producers.
    pub(crate) next_slot: Arc<AtomicU64>,
    /// This producer's bound on messages in flight.
    pub(crate) in_flight: u32,
    pub(crate) pacing: Pacing,
    /// Set when the trial is to end early.
    pub(crate) stopped: Arc<AtomicBool>,
}

/// What a producer leaves.
#[derive(Debug)]
pub(crate) struct ProducerResult {
    pub(crate) id: u16,
    pub(crate) send: SendRecorder,
    pub(crate) ack: AckRecorder,
    pub(crate) ledger: ProducerLedger,
}

/// The coordinator's end of a producer.
pub(super) struct ProducerHandle {
    pub(super) orders: mpsc::Sender<(PhaseOrder, oneshot::Sender<Result<(), TrialError>>)>,
    pub(super) settlement: Arc<Settlement>,
    pub(super) sent: Arc<Progress>,
    pub(super) thread: JoinHandle<Result<ProducerResult, TrialError>>,
}

/// What a producer is made of.
pub(super) struct ProducerSpec {
    /// Unique over all shards.
    pub(super) id: u16,
    /// Place among the producers of this shard.
    pub(super) index: u16,
    /// How many producers share the plan of this shard.
    pub(super) of: u16,
    pub(super) capacity: u32,
    pub(super) windows: WindowClock,
}

/// Starts a producer; it is ready when `ready` has answered.
pub(super) fn start<Q: Queue>(
    queue: Arc<Q>,
    plan: Arc<Plan>,
    trial: TrialSpec,
    spec: ProducerSpec,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> std::io::Result<ProducerHandle> {
    let phases = plan.phases.len();
    let recorder = AckRecorder::new(phases, Windows::new(spec.windows.clone()));
    let settlement = Arc::new(Settlement::new(spec.capacity, recorder));
    let sent = Arc::new(Progress::default());
    let (orders, inbox) = mpsc::channel(1);
    let thread = {
        let (settlement, sent) = (Arc::clone(&settlement), Arc::clone(&sent));
        std::thread::Builder::new().name(format!("producer-{}", spec.id)).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(queue, plan, trial, spec, settlement, sent, inbox, ready))
        })?
    };
    Ok(ProducerHandle { orders, settlement, sent, thread })
}

#[expect(clippy::too_many_arguments, reason = "the parts of one thread, used once")]
async fn work<Q: Queue>(
    queue: Arc<Q>,
    plan: Arc<Plan>,
    trial: TrialSpec,
    spec: ProducerSpec,
    settlement: Arc<Settlement>,
    sent: Arc<Progress>,
    mut inbox: mpsc::Receiver<(PhaseOrder, oneshot::Sender<Result<(), TrialError>>)>,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> Result<ProducerResult, TrialError> {
    let publisher = match queue.publisher(Arc::clone(&settlement) as _).await {
        Ok(publisher) => publisher,
        Err(error) => {
            // The coordinator reports the error; this thread has nothing to leave.
            let _ = ready.send(Err(error.clone().into()));
            return Err(error.into());
        }
    };
    let recorder = SendRecorder::new(plan.phases.len(), Windows::new(spec.windows.clone()));
    let mut sender = Sender::new(
        spec.id,
        publisher.clone(),
        Arc::clone(&settlement),
        sent,
        Arc::clone(&plan),
        recorder,
        &trial,
    );
    let _ = ready.send(Ok(()));
    while let Some((order, done)) = inbox.recv().await {
        let result = if plan.phases[usize::from(order.index)].schedule.is_some() {
            let (back, result) = open_phase(sender, Arc::clone(&plan), order).await?;
            sender = back;
            result
        } else {
            closed_phase(&mut sender, &order, &spec).await
        };
        // Every outcome is known before the phase counts as over, so phases do not bleed into each other.
        publisher.flush(SETTLE_DEADLINE).await;
        if done.send(result).is_err() {
            break;
        }
    }
    // Late outcomes may still come; they find the books through their own reference.
    let mut books = settlement.books.lock();
    let mut ledger = std::mem::take(&mut books.ledger);
    ledger.set_attempted(sender.attempted());
    let fresh = AckRecorder::new(plan.phases.len(), Windows::new(spec.windows));
    let ack = std::mem::replace(&mut books.recorder, fresh);
    Ok(ProducerResult { id: spec.id, send: sender.recorder, ack, ledger })
}

/// As fast as it goes, with a fixed number in flight, on the I/O thread itself: no hop between threads
/// stands between an acknowledgement and the next message.
async fn closed_phase<P: Publisher>(
    sender: &mut Sender<P>,
    order: &PhaseOrder,
    spec: &ProducerSpec,
) -> Result<(), TrialError> {
    let settlement = Arc::clone(&sender.settlement);
    let mut slot = u64::from(spec.index);
    let mut since_yield = 0_u32;
    // The place of a message whose fate was known at once serves the next one.
    let mut spare = None;
    loop {
        // A look at the clock for every message is made by the sender anyway; this one is the loop's.
        if since_yield.is_multiple_of(16)
            && (clock::now() >= order.end || order.stopped.load(Ordering::Relaxed))
        {
            break;
        }
        let place = match spare.take().or_else(|| settlement.in_flight.try_take(order.in_flight)) {
            Some(place) => place,
            None => {
                since_yield = 0;
                let left = Duration::from_nanos(order.end.saturating_sub(clock::now()).max(1));
                match tokio::time::timeout(left, settlement.in_flight.take(order.in_flight)).await {
                    Ok(place) => place,
                    Err(_) => break,
                }
            }
        };
        let due = Due { phase: order.index, slot, at: None, place };
        spare = sender.send(due).await.map_err(|e| publish_error(sender.id, &e))?;
        slot += u64::from(spec.of);
        since_yield += 1;
        if since_yield >= 64 {
            // The client's own tasks live on this thread; a loop that never waits would starve them.
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    if let Some(place) = spare {
        settlement.in_flight.free(place);
    }
    Ok(())
}

/// On schedule, on a pacing thread, while this one does the I/O.
async fn open_phase<P: Publisher>(
    sender: Sender<P>,
    plan: Arc<Plan>,
    order: PhaseOrder,
) -> Result<(Sender<P>, Result<(), TrialError>), TrialError> {
    let name = format!("pacer-{}", sender.id);
    let (done, finished) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let mut sender = sender;
        let result = pace(&mut sender, &plan, &order);
        let _ = done.send((sender, result));
    })?;
    match finished.await {
        Ok(back) => {
            // It has sent its last word, so this does not block.
            let _ = thread.join();
            Ok(back)
        }
        Err(_) => Err(TrialError::Panicked(name)),
    }
}

fn pace<P: Publisher>(sender: &mut Sender<P>, plan: &Plan, order: &PhaseOrder) -> Result<(), TrialError> {
    clock::sharpen_this_thread();
    let parker = Parker::new();
    let settlement = Arc::clone(&sender.settlement);
    let schedule =
        plan.phases[usize::from(order.index)].schedule.as_ref().expect("the caller looked: it is open");
    let stopped = || order.stopped.load(Ordering::Relaxed);
    loop {
        let slot = order.next_slot.fetch_add(1, Ordering::Relaxed);
        if slot >= schedule.slots() {
            return Ok(());
        }
        let due = order.start + schedule.due_ns(slot);
        let now = clock::sleep_until(due, order.pacing, stopped);
        if stopped() || now >= order.end {
            // This slot and all later ones stay unsent, which the phase reports.
            return Ok(());
        }
        let place = match settlement.in_flight.try_take(order.in_flight) {
            Some(place) => place,
            None => {
                sender.recorder.blocked[usize::from(order.index)] += 1;
                parker.block_on(settlement.in_flight.take(order.in_flight))
            }
        };
        let due = Due { phase: order.index, slot, at: Some(due), place };
        let spare = parker.block_on(sender.send(due)).map_err(|e| publish_error(sender.id, &e))?;
        if let Some(place) = spare {
            settlement.in_flight.free(place);
        }
    }
}

fn publish_error(producer: u16, error: &queuebench_system::queue::PublishError) -> TrialError {
    TrialError::Publish { producer, reason: error.to_string() }
}
