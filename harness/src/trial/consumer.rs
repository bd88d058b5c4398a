//! A consumer: a thread that receives, checks, records and acknowledges.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use queuebench_system::queue::{Acknowledge, Delivery, Queue, SubscribeError, SubscribeOptions, Subscriber};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{TrialError, TrialSpec};
use crate::clock;
use crate::envelope::{Envelope, Received};
use crate::ledger::ConsumerLedger;
use crate::recorder::{Progress, ReceiveRecorder};

/// Deliveries taken at once; those that are here are taken, none is waited for.
const BATCH: usize = 512;

/// Deliveries a consumer may hold unacknowledged. NATS drains a backlog fastest with pulls of 500 and some
/// thousands pending.
const PREFETCH: usize = 4_096;

/// What a consumer leaves.
#[derive(Debug)]
pub(crate) struct ConsumerResult {
    pub(super) ledger: ConsumerLedger,
    pub(super) recorder: ReceiveRecorder,
    /// Acknowledgements that did not reach the backend.
    pub(super) failed_acks: u64,
}

/// The coordinator's end of a consumer.
pub(super) struct ConsumerHandle {
    pub(super) group: u16,
    /// `done` counts distinct whole messages.
    pub(super) received: Arc<Progress>,
    pub(super) thread: JoinHandle<Result<ConsumerResult, TrialError>>,
}

/// What a consumer is made of.
pub(super) struct ConsumerSpec {
    pub(super) topic: u16,
    pub(super) group: u16,
    pub(super) index: u16,
    pub(super) ledger: ConsumerLedger,
    pub(super) recorder: ReceiveRecorder,
    /// True while consumers are to leave messages where they are.
    pub(super) paused: watch::Receiver<bool>,
    pub(super) stop: CancellationToken,
    /// When anything was last received by anyone.
    pub(super) last_received: Arc<AtomicU64>,
}

/// Starts a consumer; it is subscribed when `ready` has answered.
pub(super) fn start<Q: Queue>(
    queue: Arc<Q>,
    trial: TrialSpec,
    spec: ConsumerSpec,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> std::io::Result<ConsumerHandle> {
    let group = spec.group;
    let received = Arc::new(Progress::default());
    let counter = Arc::clone(&received);
    let name = format!("consumer-{group}-{}", spec.index);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work(queue, trial, spec, counter, ready))
    })?;
    Ok(ConsumerHandle { group, received, thread })
}

async fn work<Q: Queue>(
    queue: Arc<Q>,
    trial: TrialSpec,
    spec: ConsumerSpec,
    received: Arc<Progress>,
    ready: oneshot::Sender<Result<(), TrialError>>,
) -> Result<ConsumerResult, TrialError> {
    let options = SubscribeOptions {
        // A group of one topic is none of another's: they would only wait for each other.
        group: match spec.topic {
            0 => format!("group-{}", spec.group),
            topic => format!("group-{}-topic-{topic}", spec.group),
        },
        prefetch: PREFETCH,
        acknowledge: Acknowledge::Explicit,
    };
    let mut subscriber = match queue.subscriber(options).await {
        Ok(subscriber) => subscriber,
        Err(error) => {
            // The coordinator reports the error; this thread has nothing to leave.
            let _ = ready.send(Err(error.clone().into()));
            return Err(error.into());
        }
    };
    let _ = ready.send(Ok(()));
    let ConsumerSpec { topic: _, group, index, mut ledger, mut recorder, mut paused, stop, last_received } =
        spec;
    let mut batch = Vec::with_capacity(BATCH);
    let mut failed_acks = 0;
    let mut since_yield = 0;
    let mut stopped = pin!(stop.cancelled());
    'pauses: loop {
        if *paused.borrow_and_update() {
            tokio::select! {
                () = &mut stopped => break,
                changed = paused.changed() => if changed.is_err() { break } else { continue },
            }
        }
        let mut changed = pin!(paused.changed());
        loop {
            since_yield += 1;
            if since_yield >= 16 {
                // A backend whose messages are always there would starve this runtime's other tasks, and the
                // signals below.
                since_yield = 0;
                tokio::select! {
                    biased;
                    () = &mut stopped => break 'pauses,
                    changed = &mut changed => if changed.is_err() { break 'pauses } else { continue 'pauses },
                    () = tokio::task::yield_now() => {}
                }
            }
            // Messages first: the signals cost more to look at than a message, so they are looked at when
            // there is none.
            let taken = tokio::select! {
                biased;
                taken = subscriber.recv_batch(BATCH, &mut batch) => taken,
                () = &mut stopped => break 'pauses,
                changed = &mut changed => if changed.is_err() { break 'pauses } else { continue 'pauses },
            };
            match taken {
                Ok(_) => {}
                Err(SubscribeError::Closed) => break 'pauses,
                Err(error) => {
                    return Err(TrialError::Subscribe { group, consumer: index, reason: error.to_string() });
                }
            }
            // The batch is in our hands now; one look at the clock serves all of it.
            let now = clock::now();
            last_received.store(now, Ordering::Relaxed);
            let mut fresh = 0;
            for delivery in batch.drain(..) {
                match Envelope::open(&delivery.message().payload, trial.trial_id) {
                    Received::Whole(envelope) => {
                        let Envelope { producer, key, sequence, .. } = envelope;
                        if ledger.receive(producer, key, sequence, || delivery.redelivered()) {
                            fresh += 1;
                            recorder.receive(usize::from(envelope.phase), envelope.due, now);
                        }
                    }
                    Received::Corrupted => ledger.corrupted_one(),
                    Received::Stray => ledger.stray_one(),
                }
                failed_acks += u64::from(delivery.ack().await.is_err());
            }
            Progress::add(&received.done, fresh);
        }
    }
    Ok(ConsumerResult { ledger, recorder, failed_acks })
}
