//! The in-process queue: bounded, many producers, many consumers, groups, acknowledgement and redelivery.
//!
//! One short lock guards the ring, the counts and the waiters, so the bound is exact: a group's backlog
//! (ready, delivered and not yet acknowledged, given back) never exceeds [`MemoryConfig::capacity`], not by
//! one and not for a moment. A message that was handed out and not acknowledged counts until it is.
//! Counters are atomics with one writer at a time; reading them takes no lock.
//!
//! Items of one queue are delivered in the order of publication; what comes back is delivered before what
//! was never delivered, oldest first. Nothing survives the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Completions, DeliveryPromise, Depth, Durability, Promise, Queue, QueueError, Statistics, SubscribeOptions,
};
use crate::message::Message;

mod blocking;
mod counters;
mod delivery;
mod group;
mod publisher;
mod shared;
mod state;
mod subscriber;
#[cfg(test)]
mod tests;

pub use delivery::MemoryDelivery;
pub use publisher::{MemoryPublisher, Publish};
pub use subscriber::{MemorySubscriber, Recv};

use shared::Shared;

/// The word for this backend in settings, errors and reports.
const BACKEND: &str = "memory";

/// The ring starts with room for this many items at most; a larger one grows while it fills.
const PREALLOCATED: usize = 65_536;

/// Settings of a [`Memory`] queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// The most messages of one group that are ready or delivered and not yet acknowledged; at least 1.
    pub capacity: usize,
    /// What a publisher meets when the queue is full.
    pub full: FullPolicy,
    /// The largest payload taken, in bytes; none: any.
    pub max_payload_bytes: Option<usize>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { capacity: 1000, full: FullPolicy::Reject, max_payload_bytes: None }
    }
}

impl MemoryConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// A capacity of zero.
    pub fn validate(&self) -> Result<(), QueueError> {
        if self.capacity > 0 {
            return Ok(());
        }
        Err(QueueError::Setting {
            backend: BACKEND,
            setting: "capacity",
            reason: "must be at least 1".to_owned(),
        })
    }
}

/// What a publisher meets when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullPolicy {
    /// An error at once.
    #[default]
    Reject,
    /// A wait until a message is acknowledged, in the order in which the publishers came; one that comes
    /// just when room appears may overtake.
    Wait,
}

/// An in-process queue of `T`. A clone is a handle to the same queue.
///
/// With several groups each message is cloned once for every group but one.
#[derive(Debug)]
pub struct Memory<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Memory<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Clone> Memory<T> {
    /// An empty queue.
    ///
    /// # Errors
    /// A capacity of zero.
    pub fn open(config: MemoryConfig) -> Result<Self, QueueError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared::new(config)) })
    }

    /// A handle to send with.
    ///
    /// # Errors
    /// The queue is closed.
    pub fn sender(&self) -> Result<MemoryPublisher<T>, QueueError> {
        if self.shared.is_open() {
            Ok(MemoryPublisher::new(Arc::clone(&self.shared), None))
        } else {
            Err(QueueError::Closed(BACKEND))
        }
    }

    /// A handle to receive with. The first group ever gets what was published before it came; each later
    /// one gets what is published from now on.
    ///
    /// # Errors
    /// The queue is closed, or the prefetch is zero.
    pub fn receiver(&self, options: &SubscribeOptions) -> Result<MemorySubscriber<T>, QueueError> {
        if options.prefetch == 0 {
            return Err(QueueError::Setting {
                backend: BACKEND,
                setting: "prefetch",
                reason: "must be at least 1, or nothing would ever be delivered".to_owned(),
            });
        }
        MemorySubscriber::open(Arc::clone(&self.shared), options).ok_or(QueueError::Closed(BACKEND))
    }

    /// Forgets a group and what it has not processed, so that it no longer holds capacity. False, and
    /// nothing is done, when there is no such group, it has subscribers or deliveries in hand, or it is
    /// the only group.
    pub fn forget_group(&self, name: &str) -> bool {
        self.shared.forget_group(name)
    }
}

impl Queue for Memory<Message> {
    type Publisher = MemoryPublisher<Message>;
    type Subscriber = MemorySubscriber<Message>;

    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn promise(&self) -> Promise {
        Promise {
            delivery: DeliveryPromise::AtLeastOnce,
            ordered_per_key: true,
            ordered_among_consumers: true,
            durability: Durability::Volatile,
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<Self::Publisher, QueueError> {
        if !self.shared.is_open() {
            return Err(QueueError::Closed(BACKEND));
        }
        Ok(MemoryPublisher::new(Arc::clone(&self.shared), Some(completions)))
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<Self::Subscriber, QueueError> {
        self.receiver(&options)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.shared.depth())
    }

    fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        let config = self.shared.config();
        let limit = config.max_payload_bytes.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let full = match config.full {
            FullPolicy::Reject => "reject",
            FullPolicy::Wait => "wait",
        };
        Ok(BTreeMap::from([
            ("capacity".to_owned(), config.capacity.to_string()),
            ("full".to_owned(), full.to_owned()),
            ("max-payload-bytes".to_owned(), limit),
        ]))
    }

    /// Waits for the groups that have subscribers to take and answer everything. What is left in a group
    /// without subscribers can never be taken and is not waited for; it counts as outstanding.
    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        self.shared.close(deadline).await
    }

    async fn remove(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
