//! Opens the queue that the settings name, with the names and limits that existing deployments know, and a
//! second queue of the same kind for its dead letters.

use super::{Parts, Processor, StartError, start_with};
use crate::pipeline::config::{ConfigError, ProcessorConfig};
use crate::queue::{Memory, MemoryConfig};

/// Messages on their way to the dead letters.
#[cfg(any(feature = "nats", feature = "kafka"))]
const DEAD_IN_FLIGHT: usize = 256;

/// Starts a processor over the queue of `config`.
pub(super) async fn start(config: ProcessorConfig) -> Result<Processor, StartError> {
    match config.queue_type.as_str() {
        "memory" => {
            let capacity = usize::try_from(config.queue_size).unwrap_or(usize::MAX);
            let queue = Memory::open(MemoryConfig { capacity, ..MemoryConfig::default() })?;
            start_with(config, Parts::over(queue)).await
        }
        #[cfg(feature = "nats")]
        "nats" => nats(config).await,
        #[cfg(feature = "kafka")]
        "kafka" => kafka(config).await,
        _ => Err(StartError::Config(ConfigError::Value {
            name: "QUEUE_TYPE",
            value: config.queue_type,
            wanted: QUEUE_TYPES,
        })),
    }
}

/// What this build can open.
const QUEUE_TYPES: &str = match (cfg!(feature = "nats"), cfg!(feature = "kafka")) {
    (true, true) => "memory, nats or kafka",
    (true, false) => "memory or nats (this program was built without kafka)",
    (false, true) => "memory or kafka (this program was built without nats)",
    (false, false) => "memory (this program was built without nats and kafka)",
};

#[cfg(feature = "nats")]
async fn nats(config: ProcessorConfig) -> Result<Processor, StartError> {
    use std::sync::Arc;

    use crate::queue::Producer;
    use crate::queue::nats::{Nats, NatsConfig, NatsRetention};

    let servers: Vec<String> = config.nats_url.split(',').map(|server| server.trim().to_owned()).collect();
    let messages = NatsConfig {
        servers,
        stream: "DIPLOM_STREAM".to_owned(),
        subject: "diplom.messages".to_owned(),
        retention: NatsRetention::WorkQueue,
        max_messages: Some(1_000_000),
        max_age_ms: Some(24 * 60 * 60 * 1_000),
        ..NatsConfig::default()
    };
    let dead = NatsConfig {
        stream: "DIPLOM_DEAD".to_owned(),
        subject: "diplom-dead.messages".to_owned(),
        retention: NatsRetention::Limits,
        max_age_ms: None,
        ..messages.clone()
    };
    let queue = Nats::open(messages).await?;
    let dead = Producer::open(&Nats::open(dead).await?, DEAD_IN_FLIGHT).await?;
    start_with(config, Parts { dead_letters: Some(Arc::new(dead)), ..Parts::over(queue) }).await
}

#[cfg(feature = "kafka")]
async fn kafka(config: ProcessorConfig) -> Result<Processor, StartError> {
    use std::sync::Arc;

    use crate::queue::Producer;
    use crate::queue::kafka::{Kafka, KafkaConfig};

    let messages = KafkaConfig {
        brokers: config.kafka_brokers.clone(),
        topic: config.kafka_topic.clone(),
        partitions: config.kafka_partitions,
        ..KafkaConfig::default()
    };
    let dead = KafkaConfig {
        topic: format!("{}-dead-letters", config.kafka_topic),
        partitions: 1,
        ..messages.clone()
    };
    let queue = Kafka::open(messages).await?;
    let dead = Producer::open(&Kafka::open(dead).await?, DEAD_IN_FLIGHT).await?;
    start_with(config, Parts { dead_letters: Some(Arc::new(dead)), ..Parts::over(queue) }).await
}
