//! The whole pipeline as a subject: what is published goes in at the gateway over HTTP, what is received comes
//! out of the processor's feed of results.
//!
//! A publisher is an HTTP client (`client`): the accepted answer is the acknowledgement, so *response* is
//! from due to accepted and *end to end* from due to processed. A subscriber reads the feeds of all processors
//! (`feed`). Bodies are the messages of the plan in base64, so the ledger's envelope and checksum travel
//! through the pipeline; besides, every message id of an accepted answer is held against the id under which
//! the same bytes were processed (`ids`), and closing fails when one does not fit.
//!
//! Bounds: connections per producer, one request at a time on each; time for an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use queuebench_system::queue::{
    Completions, DeliveryPromise, Depth, Durability, Promise, Queue, QueueError, Statistics, SubscribeOptions,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Backend;

mod client;
mod feed;
mod ids;
mod response;

pub use client::PipelinePublisher;
pub(crate) use client::get;
pub use feed::{PipelineDelivery, PipelineSubscriber};
use ids::Ids;

/// A pipeline's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// The queue that it runs over.
    pub queue: Backend,
    /// Processors that share the work.
    pub processors: u16,
    /// Workers of each processor.
    pub workers: u16,
    /// Messages that the in-process queue of a processor holds.
    pub queue_size: u32,
    /// Connections to the gateway, per producer; each carries one request at a time.
    pub connections: u32,
    /// How long an answer may take before the request counts as unknown.
    pub timeout_ms: u64,
    /// Where the gateway listens, without a scheme; filled in when it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Where the processors listen; filled in when they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<String>,
}

impl PipelineConfig {
    /// The defaults over `queue`.
    pub fn over(queue: Backend) -> Self {
        Self {
            queue,
            processors: 1,
            workers: 4,
            queue_size: 10_000,
            connections: 64,
            // Longer than the gateway's own deadline, so that its answer comes through.
            timeout_ms: 5_000,
            gateway: String::new(),
            feeds: Vec::new(),
        }
    }

    /// What is wrong with it, in a sentence.
    ///
    /// # Errors
    /// Names the setting and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name, value: u64, most| match value {
            1.. if value <= most => Ok(()),
            _ => Err(format!("`{name}` is {value}: a number from 1 to {most}")),
        };
        within("processors", self.processors.into(), 64)?;
        within("workers", self.workers.into(), 1_024)?;
        within("queue_size", self.queue_size.into(), 100_000_000)?;
        within("connections", self.connections.into(), 4_096)?;
        within("timeout_ms", self.timeout_ms, 600_000)?;
        if self.queue.under_pipeline().is_none() {
            return Err(format!("`queue` is {}: memory, nats, kafka or composite", self.queue));
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.queue.under_pipeline().unwrap_or(self.queue).name()
    }
}

/// A pipeline that runs.
#[derive(Debug)]
pub struct Pipeline {
    config: PipelineConfig,
    counters: Arc<Counters>,
    ids: Arc<Ids>,
    stop: CancellationToken,
}

/// What client and feed count.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    acknowledged: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    reconnects: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pipeline {
    /// Opens a pipeline whose services run at the addresses of `config`.
    ///
    /// # Errors
    /// When a setting or an address is missing.
    pub fn open(config: PipelineConfig) -> Result<Self, QueueError> {
        let wrong = |setting, reason| Err(QueueError::Setting { backend: config.name(), setting, reason });
        if config.gateway.is_empty() {
            return wrong("gateway", "no address".to_owned());
        }
        if config.feeds.is_empty() {
            return wrong("feeds", "no address".to_owned());
        }
        if let Err(reason) = config.validate() {
            return wrong("pipeline", reason);
        }
        Ok(Self { config, counters: Arc::default(), ids: Arc::default(), stop: CancellationToken::new() })
    }

    fn failed(&self, reason: String) -> QueueError {
        QueueError::Failed { backend: self.config.name(), reason }
    }
}

impl Queue for Pipeline {
    type Publisher = PipelinePublisher;
    type Subscriber = PipelineSubscriber;

    fn backend(&self) -> &'static str {
        self.config.name()
    }

    /// While no service is killed, nothing that was accepted is lost; workers and processors work side by
    /// side, so there is no order.
    fn promise(&self) -> Promise {
        Promise {
            delivery: DeliveryPromise::AtLeastOnce,
            ordered_per_key: false,
            ordered_among_consumers: false,
            durability: match self.config.queue {
                Backend::Memory => Durability::Volatile,
                _ => Durability::ProcessCrash,
            },
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<PipelinePublisher, QueueError> {
        let parts = client::Parts {
            counters: Arc::clone(&self.counters),
            ids: Arc::clone(&self.ids),
            completions,
            stop: self.stop.clone(),
        };
        PipelinePublisher::connect(&self.config, parts).await.map_err(|error| {
            self.failed(format!("cannot connect to the gateway at {}: {error}", self.config.gateway))
        })
    }

    async fn subscriber(&self, _options: SubscribeOptions) -> Result<PipelineSubscriber, QueueError> {
        let (counters, ids) = (Arc::clone(&self.counters), Arc::clone(&self.ids));
        PipelineSubscriber::connect(&self.config, counters, ids, self.stop.clone())
            .await
            .map_err(|error| self.failed(format!("cannot listen to the processors' results: {error}")))
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let mut total = None;
        for address in &self.config.feeds {
            let stats = get(address, "/stats", Duration::from_secs(2))
                .await
                .map_err(|error| self.failed(format!("/stats of the processor at {address}: {error}")))?;
            let stats: serde_json::Value = serde_json::from_slice(&stats)
                .map_err(|error| self.failed(format!("/stats of the processor at {address}: {error}")))?;
            let size = stats["queue"]["CurrentSize"].as_u64();
            total = match (self.config.queue, total, size) {
                // Each processor has a queue of its own in its memory; a broker's queue is one.
                (Backend::Memory, Some(before), Some(size)) => Some(before + size),
                (_, before, size) => before.max(size),
            };
        }
        Ok(Depth { ready: total, unacknowledged: total.map(|_| 0) })
    }

    fn statistics(&self) -> Statistics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Statistics {
            accepted: of(&counters.accepted),
            acknowledged: of(&counters.acknowledged),
            rejected: of(&counters.rejected),
            unknown: of(&counters.unknown),
            reconnects: of(&counters.reconnects),
            delivered: of(&counters.delivered),
            acked: of(&counters.delivered),
            ..Statistics::default()
        }
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        let ids = self.ids.tally();
        Ok([
            ("ids.matched", ids.matched),
            ("ids.mismatched", ids.mismatched),
            ("ids.accepted_only", ids.accepted_only),
            ("ids.processed_only", ids.processed_only),
            ("results.failed", self.counters.failed.load(Ordering::Relaxed)),
            ("client.reconnects", self.counters.reconnects.load(Ordering::Relaxed)),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.to_string()))
        .collect())
    }

    async fn close(&self, _deadline: Duration) -> Result<(), QueueError> {
        self.stop.cancel();
        match self.ids.tally().mismatched {
            0 => Ok(()),
            count => Err(self.failed(format!(
                "{count} messages were processed under another id than the accepted answer named"
            ))),
        }
    }

    /// The services remove what they created when they end.
    async fn remove(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
