//! The processor: takes messages into the queue and works them off.
//!
//! `/enqueue` answers 202 once the queue has acknowledged the message, to the durability that the queue
//! promises. Workers acknowledge to the queue only after processing, so a crash loses nothing that a durable
//! queue took. A message that fails is tried again with growing pauses and then becomes a dead letter; it holds
//! up no other. Shutting down stops intake, works off what a volatile queue holds, and closes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::config::{ConfigError, ProcessorConfig};
use crate::queue::{AnyQueue, Durability, Queue, QueueError};

mod backend;
mod dead_letters;
mod depth;
mod feed;
mod intake;
mod message;
mod pool;
mod processing;
mod service;
mod stats;

pub use dead_letters::{DeadLetter, DeadLetterQueue};
pub use processing::{Prefix, Processing, ProcessingError, ProcessingResult, ResultSink};

use service::Inner;

/// The processor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue could not be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The processor stopped before everything was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// Requests were still in work.
    #[error("requests were cut off at the deadline")]
    Requests,
    /// The queue did not close cleanly.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// What was to go with the processor is still there.
    #[error("the queue was not removed before the deadline")]
    Removal,
}

/// What a processor is made of besides its settings.
pub struct Parts<Q, P> {
    /// Where messages wait.
    pub queue: Q,
    /// What is done with each.
    pub processing: P,
    /// Where messages go that cannot be processed; the most recent ones are kept in memory in any case.
    pub dead_letters: Option<Arc<dyn DeadLetterQueue>>,
    /// Hears of every result.
    pub results: Option<Arc<dyn ResultSink>>,
}

impl<Q, P> std::fmt::Debug for Parts<Q, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<Q> Parts<Q, Prefix> {
    /// The standard processing over `queue`.
    pub fn over(queue: Q) -> Self {
        Self { queue, processing: Prefix, dead_letters: None, results: None }
    }
}

impl Parts<AnyQueue, Prefix> {
    /// The standard processing over the queue that `config` names, with a durable place for dead letters where
    /// the queue is durable.
    ///
    /// # Errors
    /// A setting cannot work, which is found before anything is connected, or a queue cannot be opened.
    pub async fn open(config: &ProcessorConfig) -> Result<Self, StartError> {
        config.validate()?;
        backend::open(config).await
    }
}

/// A running processor.
pub struct Processor {
    address: SocketAddr,
    control: Arc<dyn Control>,
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processor").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a handle needs of a service, whatever its queue.
trait Control: Send + Sync {
    fn shutdown(self: Arc<Self>, until: Instant) -> BoxFuture<'static, Result<(), ShutdownError>>;
    fn dead_letters(&self) -> Vec<DeadLetter>;
}

/// Starts a processor over the queue that `config` names.
///
/// # Errors
/// When a setting cannot work, the queue cannot be opened or the address cannot be bound.
pub async fn start(config: ProcessorConfig) -> Result<Processor, StartError> {
    let parts = Parts::open(&config).await?;
    start_with(config, parts).await
}

/// Starts a processor from its parts, for instance over a queue or with a processing of one's own.
///
/// # Errors
/// When a setting cannot work, the queue gives no publisher or subscriber, or the address cannot be bound.
pub async fn start_with<Q: Queue, P: Processing>(
    config: ProcessorConfig,
    parts: Parts<Q, P>,
) -> Result<Processor, StartError> {
    config.validate()?;
    let (address, inner) = Inner::start(config, parts).await?;
    Ok(Processor { address, control: inner })
}

impl Processor {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most recent messages that could not be processed.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.control.dead_letters()
    }

    /// Stops intake, answers requests in work, works off what a volatile queue holds, and closes the queue; at
    /// most `deadline` long.
    ///
    /// # Errors
    /// When something was still open at the deadline; the processor has ended all the same.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        Arc::clone(&self.control).shutdown(Instant::now() + deadline).await
    }
}

impl<Q: Queue> Control for Inner<Q> {
    fn shutdown(self: Arc<Self>, until: Instant) -> BoxFuture<'static, Result<(), ShutdownError>> {
        Box::pin(async move {
            let answered = self.lifecycle.finish(until).await;
            self.background.cancel();
            if self.queue.promise().durability > Durability::Volatile {
                // What waits in a durable queue is safe there; only what is in hand is finished.
                self.pool.stop(until).await;
            }
            // The workers of a volatile queue go on until it is empty; that is what closing waits for.
            let left = until.saturating_duration_since(Instant::now());
            let closed = self.queue.close(left).await;
            self.pool.stop(until).await;
            if self.config.ephemeral {
                let left = until.saturating_duration_since(Instant::now());
                match tokio::time::timeout(left, self.queue.remove()).await {
                    Ok(removed) => removed?,
                    Err(_) => return Err(ShutdownError::Removal),
                }
            }
            closed?;
            if answered { Ok(()) } else { Err(ShutdownError::Requests) }
        })
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        self.pool.dead_letters().recent()
    }
}
