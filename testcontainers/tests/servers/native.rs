//! Servers as child processes.

use queuebench_testcontainers::{Backend, Provisioner, Via};

use crate::common;

#[tokio::test]
async fn native_nats_survives_its_faults_with_its_data() {
    let Some(nats) = common::open(Backend::Nats, common::options(Via::Native)).await else { return };
    assert_eq!(nats.provisioner(), Provisioner::Native);
    assert!(nats.version().starts_with("2."), "{}", nats.version());
    common::survives_its_faults(&nats).await;
}

#[tokio::test]
async fn native_kafka_survives_its_faults_with_its_data() {
    let Some(kafka) = common::open(Backend::Kafka, common::options(Via::Native)).await else { return };
    assert_eq!(kafka.version(), "4.1.0");
    common::survives_its_faults(&kafka).await;
}
