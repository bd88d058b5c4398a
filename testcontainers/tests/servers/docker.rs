//! Servers in containers.

use queuebench_testcontainers::{Backend, ContainerNetwork, Provisioner, StartOptions, Via};

use crate::common;

#[tokio::test]
async fn nats_in_a_container_survives_its_faults_with_its_data() {
    let Some(nats) = common::open(Backend::Nats, common::options(Via::Docker)).await else { return };
    assert_eq!(nats.provisioner(), Provisioner::Docker);
    assert!(nats.version().starts_with("2."), "{}", nats.version());
    assert!(nats.facts().image.is_some());
    common::survives_its_faults(&nats).await;
}

#[tokio::test]
async fn kafka_in_a_container_survives_its_faults_with_its_data() {
    let Some(kafka) = common::open(Backend::Kafka, common::options(Via::Docker)).await else { return };
    assert_eq!(kafka.version(), "4.1.0");
    common::survives_its_faults(&kafka).await;
}

#[tokio::test]
async fn published_ports_stay_the_same_and_on_loopback() {
    for backend in Backend::ALL {
        let options =
            StartOptions { container_network: ContainerNetwork::Published, ..common::options(Via::Docker) };
        let Some(server) = common::open(backend, options).await else { return };
        assert!(server.address().starts_with("127.0.0.1:"));
        common::write(&server, "first").await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
        assert_eq!(common::read(&server).await, ["first"]);
        server.stop(common::STOP).await.unwrap();
    }
}
