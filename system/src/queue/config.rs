//! Settings that name a backend, and how they become a queue.

use serde::{Deserialize, Serialize};

use super::any::{AnyQueue, SingleQueue};
use super::composite::{Composite, CompositeConfig};
#[cfg(feature = "kafka")]
use super::kafka::{Kafka, KafkaConfig};
#[cfg(feature = "nats")]
use super::nats::{Nats, NatsConfig};
use super::{Memory, MemoryConfig, QueueError};

/// Which backend and with which settings. In TOML one table named after the backend:
/// `memory = { capacity = 1000 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum QueueConfig {
    /// In this process.
    Memory(MemoryConfig),
    /// NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(Box<NatsConfig>),
    /// Apache Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaConfig>),
    /// Several at once.
    Composite(CompositeConfig<QueueConfig>),
}

impl QueueConfig {
    /// The kind of backend, as [`Queue::backend`](super::Queue::backend) says it.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => "kafka",
            Self::Composite(_) => "composite",
        }
    }

    /// Checks what can be checked without connecting, children included.
    ///
    /// # Errors
    /// The first impossible setting.
    pub fn validate(&self) -> Result<(), QueueError> {
        match self {
            Self::Memory(config) => config.validate(),
            #[cfg(feature = "nats")]
            Self::Nats(config) => config.validate(),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => config.validate(),
            Self::Composite(config) => {
                config.validate()?;
                for child in &config.children {
                    if matches!(child, Self::Composite(_)) {
                        return Err(QueueError::Setting {
                            backend: "composite",
                            setting: "children",
                            reason: "a composite cannot be the child of a composite: list its children here"
                                .to_owned(),
                        });
                    }
                    child.validate()?;
                }
                Ok(())
            }
        }
    }

    /// Validates everything, then connects: a composite's children in their order. If one fails, those
    /// opened before it are closed again.
    ///
    /// # Errors
    /// An impossible setting, or what a backend says when it cannot be opened as set.
    pub async fn open(self) -> Result<AnyQueue, QueueError> {
        self.validate()?;
        match self {
            Self::Composite(config) => {
                Composite::open(config, Self::open_single).await.map(AnyQueue::Composite)
            }
            single => single.open_single().await.map(AnyQueue::Single),
        }
    }

    async fn open_single(self) -> Result<SingleQueue, QueueError> {
        match self {
            Self::Memory(config) => Memory::open(config).map(SingleQueue::Memory),
            #[cfg(feature = "nats")]
            Self::Nats(config) => Nats::open(*config).await.map(SingleQueue::Nats),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => Kafka::open(*config).await.map(SingleQueue::Kafka),
            Self::Composite(_) => unreachable!("validation refuses a composite inside a composite"),
        }
    }
}
