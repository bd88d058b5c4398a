//! The workers: take messages in batches, process them, acknowledge.
//!
//! Workers share one subscription, so work is shared whatever the number of partitions. A batch is as large as
//! what a worker finishes in about a millisecond, so slow messages are not piled up in one worker's hands.
//! Bounds: workers, batch, and unacknowledged messages (the subscription's prefetch), which also bounds the
//! messages that wait for another attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Parts;
use super::dead_letters::DeadLetters;
use super::processing::{Processing, ResultSink};
use crate::pipeline::config::ProcessorConfig;
use crate::queue::{Acknowledge, Queue, QueueError, SubscribeError, SubscribeOptions, Subscriber};
use crate::telemetry::metrics::{Counter, Gauge, Histogram, Registry};

mod attempt;

/// What a batch should take.
const BATCH_TIME: Duration = Duration::from_millis(1);
/// Pause before a failed subscription is made anew.
const RESUBSCRIBE: Duration = Duration::from_millis(500);

/// What the workers count.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolCounters {
    pub(super) processed: Counter,
    pub(super) errors: Counter,
    pub(super) duration_ns: Counter,
    retries: Counter,
    dead_letters: Counter,
    logical: Counter,
    active: Gauge,
    succeeded: Option<Histogram>,
    failed: Option<Histogram>,
}

impl PoolCounters {
    fn new(registry: &Registry) -> Self {
        let messages = "Messages by fate.";
        let durations = "Time of one attempt.";
        let attempt = |status| {
            registry.histogram("processor_processing_duration_seconds", durations, &[("status", status)])
        };
        Self {
            processed: registry.counter("processor_messages_total", messages, &[("status", "processed")]),
            errors: registry.counter("processor_messages_total", messages, &[("status", "error")]),
            duration_ns: Counter::default(),
            retries: registry.counter("processor_retries_total", "Attempts after the first.", &[]),
            dead_letters: registry.counter("processor_dead_letters_total", "Messages given up.", &[]),
            logical: registry.counter("messages_processed_total", "Messages processed.", &[]),
            active: registry.gauge("worker_pool_active", "Workers at work.", &[]),
            succeeded: Some(attempt("success")),
            failed: Some(attempt("error")),
        }
    }
}

/// The workers of one processor.
pub(super) struct Pool {
    counters: PoolCounters,
    dead_letters: Arc<DeadLetters>,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

/// What every worker shares.
struct Shared<Q: Queue, P> {
    queue: Arc<Q>,
    processing: P,
    results: Option<Arc<dyn ResultSink>>,
    subscriber: Mutex<Q::Subscriber>,
    options: SubscribeOptions,
    /// As many attempts at once as there are workers, repeated ones included.
    permits: Semaphore,
    counters: PoolCounters,
    dead_letters: Arc<DeadLetters>,
    batch: usize,
    max_attempts: u32,
    retry_delay: Duration,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Pool {
    /// Subscribes and starts the workers.
    pub(super) async fn start<Q: Queue, P: Processing>(
        config: &ProcessorConfig,
        queue: &Arc<Q>,
        parts: Parts<(), P>,
        registry: &Registry,
    ) -> Result<Self, QueueError> {
        let options = SubscribeOptions {
            group: config.kafka_consumer_group.clone(),
            prefetch: config.prefetch,
            acknowledge: Acknowledge::Explicit,
        };
        let workers = usize::try_from(config.workers).unwrap_or(1);
        let pool = Self {
            counters: PoolCounters::new(registry),
            dead_letters: Arc::new(DeadLetters::new(config.dead_letters, parts.dead_letters)),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let shared = Arc::new(Shared {
            queue: Arc::clone(queue),
            processing: parts.processing,
            results: parts.results,
            subscriber: Mutex::new(queue.subscriber(options.clone()).await?),
            options,
            permits: Semaphore::new(workers),
            counters: pool.counters.clone(),
            dead_letters: Arc::clone(&pool.dead_letters),
            batch: config.batch,
            max_attempts: config.max_attempts,
            retry_delay: config.retry_delay(),
            stop: pool.stop.clone(),
            abort: pool.abort.clone(),
            tasks: pool.tasks.clone(),
        });
        for _ in 0..workers {
            pool.tasks.spawn(work(Arc::clone(&shared)));
        }
        Ok(pool)
    }

    pub(super) fn counters(&self) -> &PoolCounters {
        &self.counters
    }

    pub(super) fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// Lets the workers finish what they hold, at most until `deadline`; what is then still in hand goes back
    /// to the queue.
    pub(super) async fn stop(&self, deadline: Instant) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn work<Q: Queue, P: Processing>(shared: Arc<Shared<Q, P>>) {
    let mut batch = Vec::with_capacity(shared.batch);
    let mut mean = BATCH_TIME / 8;
    loop {
        let max = usize::try_from(BATCH_TIME.as_nanos() / mean.as_nanos().max(1)).unwrap_or(usize::MAX);
        let taken = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            taken = take(&shared, max.clamp(1, shared.batch), &mut batch) => taken,
        };
        match taken {
            Ok(()) => {}
            Err(SubscribeError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "subscription failed and is made anew");
                tokio::select! {
                    () = shared.stop.cancelled() => return,
                    () = resubscribe(&shared) => continue,
                }
            }
        }
        let (begun, count) = (Instant::now(), u32::try_from(batch.len()).unwrap_or(u32::MAX));
        shared.counters.active.add(1.0);
        for delivery in batch.drain(..) {
            tokio::select! {
                biased;
                () = attempt::first(&shared, delivery) => {}
                // What is dropped here goes back to the queue.
                () = shared.abort.cancelled() => break,
            }
        }
        shared.counters.active.add(-1.0);
        mean = (mean * 7 + begun.elapsed() / count.max(1)) / 8;
        // Cheap processing over a queue that is never empty must not keep others from the thread.
        tokio::task::yield_now().await;
    }
}

async fn take<Q: Queue, P>(
    shared: &Shared<Q, P>,
    max: usize,
    batch: &mut Vec<<Q::Subscriber as Subscriber>::Delivery>,
) -> Result<(), SubscribeError> {
    shared.subscriber.lock().await.recv_batch(max, batch).await.map(|_| ())
}

async fn resubscribe<Q: Queue, P>(shared: &Shared<Q, P>) {
    let mut subscriber = shared.subscriber.lock().await;
    loop {
        tokio::time::sleep(RESUBSCRIBE).await;
        match shared.queue.subscriber(shared.options.clone()).await {
            Ok(new) => {
                *subscriber = new;
                return;
            }
            Err(QueueError::Closed(_)) => return,
            Err(error) => tracing::warn!(%error, "no subscription yet"),
        }
    }
}
