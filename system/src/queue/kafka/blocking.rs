//! Runs librdkafka's blocking calls on a thread of their own, so that an async caller never blocks and
//! needs no runtime.
//!
//! Only for rare calls (open, depth, flush, close): a thread costs some 30 µs. Every call given here has
//! a time limit of its own; a caller that stops waiting leaves the thread to run into it.

use tokio::sync::oneshot;

use super::BACKEND;
use crate::queue::QueueError;

/// Runs `work` on a new thread and waits for its result.
pub(super) async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, QueueError> {
    let (done, result) = oneshot::channel();
    let failed = |reason: String| QueueError::Failed { backend: BACKEND, reason };
    std::thread::Builder::new()
        .name(format!("kafka-{name}"))
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = done.send(work());
        })
        .map_err(|error| failed(format!("cannot start a thread: {error}")))?;
    result.await.map_err(|_| failed(format!("the {name} thread ended without a result")))
}
