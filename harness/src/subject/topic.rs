//! The settings of one topic among several: a stream, subject or topic of its own on the server.
//!
//! The first one keeps its name, so that a profile with one topic uses exactly what its settings say.

use queuebench_system::queue::QueueConfig;
use queuebench_system::queue::composite::CompositeConfig;
use queuebench_system::queue::kafka::KafkaConfig;
use queuebench_system::queue::nats::NatsConfig;

pub(super) fn nats(config: &NatsConfig, topic: u16) -> NatsConfig {
    let mut config = config.clone();
    if topic > 0 {
        config.stream.push_str(&format!("-{topic}"));
        config.subject.push_str(&format!("-{topic}"));
    }
    config
}

pub(super) fn kafka(config: &KafkaConfig, topic: u16) -> KafkaConfig {
    let mut config = config.clone();
    if topic > 0 {
        config.topic.push_str(&format!("-{topic}"));
    }
    config
}

pub(super) fn composite(config: &CompositeConfig<QueueConfig>, topic: u16) -> QueueConfig {
    let mut config = config.clone();
    for child in &mut config.children {
        match child {
            QueueConfig::Nats(child) => **child = nats(child, topic),
            QueueConfig::Kafka(child) => **child = kafka(child, topic),
            // A queue in this process has no name to share; a composite is no child of another.
            QueueConfig::Memory(_) | QueueConfig::Composite(_) => {}
        }
    }
    QueueConfig::Composite(config)
}
