//! The queue that the settings name, with the names and limits that existing deployments know, and a second
//! one of the same kind for dead letters.
//!
//! All names are checked before anything is connected. A composite of one provider is that provider. A memory
//! queue is no place for dead letters, so only the durable providers of a composite take them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::dead_letters::DeadLetterQueue;
use super::{Parts, Prefix, StartError};
use crate::message::Message;
use crate::pipeline::config::{ConfigError, ProcessorConfig};
use crate::queue::composite::Strategy;
#[cfg(feature = "kafka")]
use crate::queue::kafka::KafkaConfig;
#[cfg(feature = "nats")]
use crate::queue::nats::{NatsConfig, NatsRetention};
use crate::queue::{AnyQueue, CompositeConfig, MemoryConfig, Producer, Queue, QueueConfig};

/// Messages on their way to the dead letters.
const DEAD_IN_FLIGHT: usize = 256;
/// How long a queue may take to close when another one could not be opened.
const CLOSE: Duration = Duration::from_secs(5);

/// The stream that existing deployments know, and that has names of its own.
#[cfg(feature = "nats")]
const DEFAULT_STREAM: &str = "DIPLOM_STREAM";

/// What this build can open.
const QUEUE_TYPES: &str = match (cfg!(feature = "nats"), cfg!(feature = "kafka")) {
    (true, true) => "memory, nats, kafka or composite",
    (true, false) => "memory, nats or composite (this program was built without kafka)",
    (false, true) => "memory, kafka or composite (this program was built without nats)",
    (false, false) => "memory or composite (this program was built without nats and kafka)",
};

/// What a composite of this build can be made of.
const PROVIDERS: &str = match (cfg!(feature = "nats"), cfg!(feature = "kafka")) {
    (true, true) => "memory, nats and kafka can be listed, separated by commas",
    (true, false) => "memory and nats can be listed (this program was built without kafka)",
    (false, true) => "memory and kafka can be listed (this program was built without nats)",
    (false, false) => "memory can be listed (this program was built without nats and kafka)",
};

/// Settings of the messages' queue and of the dead letters'.
#[derive(Debug)]
struct Queues {
    messages: QueueConfig,
    dead_letters: Option<QueueConfig>,
}

/// Opens what `config` names.
pub(super) async fn open(config: &ProcessorConfig) -> Result<Parts<AnyQueue, Prefix>, StartError> {
    let Queues { messages, dead_letters } = queues(config)?;
    let queue = messages.open().await?;
    // What ends with the processor needs no place that outlives it.
    let Some(dead_letters) = dead_letters.filter(|_| !config.ephemeral) else {
        return Ok(Parts::over(queue));
    };
    match Dead::open(dead_letters).await {
        Ok(dead) => Ok(Parts { dead_letters: Some(Arc::new(dead)), ..Parts::over(queue) }),
        Err(error) => {
            if let Err(close) = queue.close(CLOSE).await {
                tracing::warn!(error = %close, "closing the queue after its dead letters' could not be opened");
            }
            Err(error.into())
        }
    }
}

/// Dead letters in a queue of their own, which lives as long as this.
struct Dead {
    producer: Producer<<AnyQueue as Queue>::Publisher>,
    _queue: AnyQueue,
}

impl Dead {
    async fn open(config: QueueConfig) -> Result<Self, crate::queue::QueueError> {
        let queue = config.open().await?;
        Ok(Self { producer: Producer::open(&queue, DEAD_IN_FLIGHT).await?, _queue: queue })
    }
}

impl DeadLetterQueue for Dead {
    fn put(&self, letter: Message) -> BoxFuture<'_, Result<(), String>> {
        self.producer.put(letter)
    }
}

/// Decides without connecting.
fn queues(config: &ProcessorConfig) -> Result<Queues, ConfigError> {
    let wrong = |name, value: &str, wanted| Err(ConfigError::Value { name, value: value.to_owned(), wanted });
    if config.queue_type != "composite" {
        let Some(messages) = single(config, &config.queue_type) else {
            return wrong("QUEUE_TYPE", &config.queue_type, QUEUE_TYPES);
        };
        return Ok(Queues { dead_letters: dead(&messages), messages });
    }
    let strategy = match config.composite_strategy.trim() {
        "fail-fast" => Strategy::FailFast,
        "best-effort" => Strategy::BestEffort,
        other => return wrong("COMPOSITE_STRATEGY", other, "fail-fast or best-effort"),
    };
    let mut children = Vec::new();
    for provider in config.composite_providers.split(',').map(str::trim) {
        match single(config, provider) {
            Some(child) => children.push(child),
            None => return wrong("COMPOSITE_PROVIDERS", &config.composite_providers, PROVIDERS),
        }
    }
    let mut dead_letters: Vec<QueueConfig> = Vec::new();
    for child in children.iter().filter_map(dead) {
        // A provider that is listed twice still has one place for dead letters.
        if !dead_letters.contains(&child) {
            dead_letters.push(child);
        }
    }
    let together = |mut children: Vec<QueueConfig>| match children.len() {
        0 | 1 => children.pop(),
        _ => Some(QueueConfig::Composite(CompositeConfig { strategy, ..CompositeConfig::new(children) })),
    };
    let Some(messages) = together(children) else {
        return wrong("COMPOSITE_PROVIDERS", &config.composite_providers, PROVIDERS);
    };
    Ok(Queues { messages, dead_letters: together(dead_letters) })
}

/// The settings of one kind of queue.
fn single(config: &ProcessorConfig, kind: &str) -> Option<QueueConfig> {
    match kind {
        "memory" => {
            let capacity = usize::try_from(config.queue_size).unwrap_or(usize::MAX);
            Some(QueueConfig::Memory(MemoryConfig { capacity, ..MemoryConfig::default() }))
        }
        #[cfg(feature = "nats")]
        "nats" => Some(QueueConfig::Nats(Box::new(NatsConfig {
            servers: config.nats_url.split(',').map(|server| server.trim().to_owned()).collect(),
            stream: config.nats_stream.clone(),
            subject: if config.nats_stream == DEFAULT_STREAM {
                "diplom.messages".to_owned()
            } else {
                format!("{}.messages", config.nats_stream)
            },
            // Existing deployments made it for all of `diplom`.
            stream_takes: (config.nats_stream == DEFAULT_STREAM).then(|| "diplom.*".to_owned()),
            consumer: Some("messages-consumer".to_owned()),
            retention: NatsRetention::WorkQueue,
            max_messages: Some(1_000_000),
            max_age_ms: Some(24 * 60 * 60 * 1_000),
            ..NatsConfig::default()
        }))),
        #[cfg(feature = "kafka")]
        "kafka" => Some(QueueConfig::Kafka(Box::new(KafkaConfig {
            partitions: config.kafka_partitions,
            any_partitions: true,
            ..KafkaConfig::new(config.kafka_brokers.clone(), config.kafka_topic.clone())
        }))),
        _ => None,
    }
}

/// Where the dead letters of such a queue go.
fn dead(messages: &QueueConfig) -> Option<QueueConfig> {
    match messages {
        QueueConfig::Memory(_) | QueueConfig::Composite(_) => None,
        #[cfg(feature = "nats")]
        QueueConfig::Nats(messages) => Some(QueueConfig::Nats(Box::new(NatsConfig {
            stream: if messages.stream == DEFAULT_STREAM {
                "DIPLOM_DEAD".to_owned()
            } else {
                format!("{}-dead", messages.stream)
            },
            subject: if messages.stream == DEFAULT_STREAM {
                "diplom-dead.messages".to_owned()
            } else {
                format!("{}-dead.messages", messages.stream)
            },
            stream_takes: None,
            consumer: None,
            retention: NatsRetention::Limits,
            max_age_ms: None,
            ..(**messages).clone()
        }))),
        #[cfg(feature = "kafka")]
        QueueConfig::Kafka(messages) => Some(QueueConfig::Kafka(Box::new(KafkaConfig {
            topic: format!("{}-dead-letters", messages.topic),
            partitions: 1,
            ..(**messages).clone()
        }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(queue_type: &str, providers: &str, strategy: &str) -> Result<Queues, String> {
        let config = ProcessorConfig {
            queue_type: queue_type.to_owned(),
            composite_providers: providers.to_owned(),
            composite_strategy: strategy.to_owned(),
            ..ProcessorConfig::default()
        };
        queues(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn wrong_words_are_refused_with_what_would_be_right() {
        for (queue_type, providers, strategy, name) in [
            ("rabbit", "memory", "fail-fast", "QUEUE_TYPE is rabbit: memory"),
            (
                "composite",
                "memory,memory",
                "quorum",
                "COMPOSITE_STRATEGY is quorum: fail-fast or best-effort",
            ),
            // Of two mistakes, the strategy is named first.
            ("composite", "rabbit", "", "COMPOSITE_STRATEGY is "),
            ("composite", "memory,rabbit", "best-effort", "COMPOSITE_PROVIDERS is memory,rabbit: memory"),
            (
                "composite",
                "memory,composite",
                "best-effort",
                "COMPOSITE_PROVIDERS is memory,composite: memory",
            ),
            ("composite", "memory,,memory", "best-effort", "COMPOSITE_PROVIDERS is memory,,memory: memory"),
        ] {
            let error = named(queue_type, providers, strategy).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn providers_are_trimmed_and_may_repeat() {
        let queues = named("composite", " memory , memory ", " best-effort ").unwrap();
        let QueueConfig::Composite(composite) = &queues.messages else { panic!("{queues:?}") };
        assert_eq!(composite.children.len(), 2);
        assert_eq!(composite.strategy, Strategy::BestEffort);
        assert!(queues.dead_letters.is_none(), "memory is no place for dead letters");
        let one = named("composite", "memory", "fail-fast").unwrap();
        assert_eq!(one.messages.backend(), "memory");
    }

    #[test]
    #[cfg(all(feature = "nats", feature = "kafka"))]
    fn every_queue_type_is_one_that_can_be_opened() {
        for (queue_type, dead) in [("memory", None), ("nats", Some("nats")), ("kafka", Some("kafka"))] {
            let queues = named(queue_type, "", "").unwrap();
            assert_eq!(queues.messages.backend(), queue_type);
            assert_eq!(queues.dead_letters.as_ref().map(QueueConfig::backend), dead);
        }
        let queues = named("composite", "nats, kafka, memory", "fail-fast").unwrap();
        queues.messages.validate().unwrap();
        let Some(QueueConfig::Composite(dead)) = &queues.dead_letters else { panic!("{queues:?}") };
        dead.validate().unwrap();
        let kinds: Vec<_> = dead.children.iter().map(QueueConfig::backend).collect();
        assert_eq!(kinds, ["nats", "kafka"]);
        let repeated = named("composite", "nats,nats", "fail-fast").unwrap();
        assert_eq!(repeated.dead_letters.unwrap().backend(), "nats");
    }
}
