//! One message from delivery to acknowledgement: attempts, pauses between them, and the end as a result or a
//! dead letter.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::Shared;
use crate::pipeline::processor::dead_letters::DeadLetter;
use crate::pipeline::processor::processing::{Processing, ProcessingError, ProcessingResult, unix_seconds};
use crate::pipeline::wire::DataMessage;
use crate::queue::{Delivery, Queue};

/// Longest run of one attempt. Shorter than the time after which a broker delivers again.
const MAX_ATTEMPT: Duration = Duration::from_secs(20);
/// Pauses double up to this many times the first one.
const MAX_BACK_OFF: u32 = 64;

/// Tries a message that was just delivered. If it fails and may be tried again, a task of its own waits for
/// that, and the worker goes on.
pub(super) async fn first<Q: Queue, P: Processing, D: Delivery>(shared: &Arc<Shared<Q, P>>, mut delivery: D) {
    let payload = delivery.take_message().payload;
    // Earlier deliveries count: a message that kills the process must not come back for ever.
    let before = delivery.attempt().unwrap_or(1).saturating_sub(1);
    let message = match DataMessage::parse(&payload) {
        Ok(message) => message,
        Err(error) => return bury(shared, delivery, String::new(), 0, error.to_string()).await,
    };
    if before >= shared.max_attempts {
        let reason = format!("delivered {} times without an answer", before + 1);
        return bury(shared, delivery, message.id, before, reason).await;
    }
    match run(shared, &message).await {
        Ok(result) => finish(shared, delivery, message.id, result).await,
        Err(error) => again(shared, delivery, message, before + 1, error).await,
    }
}

/// Decides what follows a failed attempt.
fn again<'s, Q: Queue, P: Processing, D: Delivery>(
    shared: &'s Arc<Shared<Q, P>>,
    delivery: D,
    message: DataMessage,
    attempts: u32,
    error: ProcessingError,
) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
    // Boxed because a later attempt ends here again.
    Box::pin(async move {
        let hopeless = matches!(error, ProcessingError::Fatal(_)) || attempts >= shared.max_attempts;
        if hopeless {
            return bury(shared, delivery, message.id, attempts, error.to_string()).await;
        }
        let pause = shared.retry_delay * (1 << (attempts - 1).min(31)).min(MAX_BACK_OFF);
        let of_task = Arc::clone(shared);
        shared.counters.retries.increment();
        shared.tasks.spawn(async move {
            let retry = async {
                tokio::time::sleep(pause).await;
                match run(&of_task, &message).await {
                    Ok(result) => finish(&of_task, delivery, message.id, result).await,
                    Err(error) => again(&of_task, delivery, message, attempts + 1, error).await,
                }
            };
            tokio::select! {
                () = retry => {}
                // Dropped unanswered, so it goes back to the queue.
                () = of_task.abort.cancelled() => {}
            }
        });
    })
}

/// One attempt, in time and without a panic reaching the worker.
async fn run<Q: Queue, P: Processing>(
    shared: &Shared<Q, P>,
    message: &DataMessage,
) -> Result<Vec<u8>, ProcessingError> {
    let Ok(_permit) = shared.permits.acquire().await else {
        return Err(ProcessingError::Retry("the pool is closed".to_owned()));
    };
    let begun = Instant::now();
    let attempt = AssertUnwindSafe(shared.processing.process(message)).catch_unwind();
    let outcome = match tokio::time::timeout(MAX_ATTEMPT, attempt).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(ProcessingError::Retry("processing panicked".to_owned())),
        Err(_) => Err(ProcessingError::Retry(format!("processing took longer than {MAX_ATTEMPT:?}"))),
    };
    let took = begun.elapsed();
    let counters = &shared.counters;
    counters.duration_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    let histogram = if outcome.is_ok() { &counters.succeeded } else { &counters.failed };
    if let Some(histogram) = histogram {
        histogram.observe(took);
    }
    outcome
}

async fn finish<Q: Queue, P: Processing, D: Delivery>(
    shared: &Shared<Q, P>,
    delivery: D,
    message_id: String,
    result: Vec<u8>,
) {
    if let Some(sink) = &shared.results {
        let (processed_at, error) = (unix_seconds(), String::new());
        sink.result(&ProcessingResult { message_id, processed_at, success: true, error, result });
    }
    if let Err(error) = delivery.ack().await {
        // It will be delivered again; processing is at least once.
        tracing::debug!(%error, "acknowledgement did not arrive");
    }
    shared.counters.processed.increment();
    shared.counters.logical.increment();
}

/// Ends a message that cannot be processed.
async fn bury<Q: Queue, P: Processing, D: Delivery>(
    shared: &Shared<Q, P>,
    delivery: D,
    message_id: String,
    attempts: u32,
    reason: String,
) {
    let message = delivery.message().clone();
    let letter = DeadLetter { message, reason: reason.clone(), attempts, at: unix_seconds() };
    if let Err(error) = shared.dead_letters.put(letter).await {
        tracing::warn!(%error, "dead letter not taken; the message stays in the queue");
        let pause = shared.retry_delay * MAX_BACK_OFF;
        if let Err(error) = delivery.nack(pause).await {
            tracing::debug!(%error, "message not given back; it is delivered again later");
        }
        return;
    }
    tracing::debug!(message_id, attempts, reason, "message became a dead letter");
    if let Some(sink) = &shared.results {
        let (processed_at, result) = (unix_seconds(), Vec::new());
        sink.result(&ProcessingResult { message_id, processed_at, success: false, error: reason, result });
    }
    if let Err(error) = delivery.ack().await {
        tracing::debug!(%error, "acknowledgement did not arrive");
    }
    shared.counters.errors.increment();
    shared.counters.dead_letters.increment();
}
