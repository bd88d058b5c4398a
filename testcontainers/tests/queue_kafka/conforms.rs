//! The suite that every queue backend must pass, on a real broker that is restarted in the last case.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use queuebench_system::queue::QueueError;
use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
use queuebench_system::queue::kafka::{Kafka, KafkaConfig, Transactions};

use super::common::own_broker;

struct Topics {
    brokers: String,
    transactional: bool,
    opened: AtomicUsize,
}

impl Topics {
    fn new(brokers: &str, transactional: bool) -> Self {
        Self { brokers: brokers.to_owned(), transactional, opened: AtomicUsize::new(0) }
    }
}

impl Factory for Topics {
    type Queue = Kafka;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_payload_bytes: Some(2 * 1024 * 1024),
            full: Full::Never,
            ..Capabilities::plain(Duration::from_secs(60))
        }
    }

    async fn open(&self, wanted: Wanted) -> Result<Kafka, QueueError> {
        let number = self.opened.fetch_add(1, SeqCst);
        let mut config = KafkaConfig::new(&self.brokers, format!("{}-{number}", wanted.case));
        config.max_payload_bytes = 2 * 1024 * 1024;
        if self.transactional {
            config.topic.push_str("-transactional");
            config.transactions =
                Some(Transactions { interval_ms: 5, ..Transactions::new(config.topic.clone()) });
        }
        Kafka::open(config).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_conforms_across_a_restart_with_and_without_transactions() {
    let Some(broker) = own_broker().await else { return };
    for transactional in [false, true] {
        let topics = Topics::new(broker.address(), transactional);
        let report = conformance::run_all_disturbed(&topics, async || {
            broker.restart().await.map_err(|error| error.to_string())
        });
        let report = Box::pin(report).await;
        report.assert_passed();
    }
    broker.stop(Duration::from_secs(20)).await.unwrap();
}
