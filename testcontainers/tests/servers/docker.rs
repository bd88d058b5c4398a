//! Servers in containers.

use std::time::{Duration, Instant};

use queuebench_testcontainers::{
    Backend, ContainerNetwork, Provisioner, StartError, StartOptions, Via, require, start,
};

use crate::common;
use crate::death::containers;

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
    assert!(kafka.version().starts_with("4."), "{}", kafka.version());
    common::survives_its_faults(&kafka).await;
}

#[tokio::test]
async fn published_ports_stay_the_same_and_on_loopback() {
    for backend in Backend::QUEUES {
        let options =
            StartOptions { container_network: ContainerNetwork::Published, ..common::options(Via::Docker) };
        let Some(server) = common::open(backend, options).await else { return };
        assert!(server.address().starts_with("127.0.0.1:"));
        common::write(&server, "first").await;
        server.restart().await.unwrap();
        assert_eq!(common::read(&server).await, ["first"]);
        server.stop(common::STOP).await.unwrap();
    }
}

/// The error of a start that must fail, and that no container of it is left.
async fn fails(backend: Backend, label: &str, options: StartOptions) -> Option<StartError> {
    let options = StartOptions { run_label: label.to_owned(), via: Via::Docker, ..options };
    let (started, limit) = (Instant::now(), options.time_limit + Duration::from_secs(30));
    match start(backend, options).await.unwrap_err() {
        error @ StartError::Engine { .. } => {
            require::skip(&[backend.name(), "docker"], &error);
            None
        }
        error => {
            assert!(started.elapsed() < limit, "{:?}", started.elapsed());
            assert_eq!(containers(label).await, 0, "{error}");
            Some(error)
        }
    }
}

#[tokio::test]
async fn an_image_that_was_asked_for_and_is_not_there_is_an_error_also_with_auto() {
    let image = "queuebench/absent:0".to_owned();
    let options = StartOptions { image: Some(image.clone()), ..common::options(Via::Docker) };
    let Some(error) = fails(Backend::Nats, "absent-image", options.clone()).await else { return };
    assert!(matches!(&error, StartError::Image { image: named, .. } if *named == image), "{error}");
    let options = StartOptions { via: Via::Auto, ..options };
    let error = start(Backend::Nats, options).await.unwrap_err();
    assert!(matches!(error, StartError::Image { .. }), "{error}");
}

#[tokio::test]
async fn an_image_without_the_server_is_an_error_that_says_so() {
    let Some(nats) = common::open(Backend::Nats, common::options(Via::Docker)).await else { return };
    let image = nats.facts().image.clone();
    nats.stop(common::STOP).await.unwrap();
    let options = StartOptions { image, ..common::options(Via::Docker) };
    let Some(error) = fails(Backend::Kafka, "wrong-image", options).await else { return };
    assert!(matches!(error, StartError::Exited { provisioner: Provisioner::Docker, .. }), "{error}");
    assert!(error.to_string().contains("/bin/sh"), "{error}");
}

#[tokio::test]
async fn a_container_that_ends_is_quoted() {
    // Its data directory is another cluster's, so the server in it ends by itself.
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("meta.properties"), "version=1\nnode.id=7\ncluster.id=other\n").unwrap();
    let options = StartOptions { data_dir: Some(data.path().to_owned()), ..common::options(Via::Docker) };
    let Some(error) = fails(Backend::Kafka, "ends", options).await else { return };
    match &error {
        StartError::Exited { status, tail, .. } => {
            assert!(status.starts_with("exit status: "), "{status}");
            assert!(
                tail.lines.iter().any(|line| line.contains("node.id")
                    || line.contains("nodeId")
                    || line.contains("node id")),
                "{error}"
            );
        }
        StartError::Image { .. } => require::skip(&["kafka", "docker"], &error),
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_container_that_is_not_ready_in_time_is_removed() {
    let options = StartOptions { time_limit: Duration::from_millis(400), ..StartOptions::default() };
    let Some(error) = fails(Backend::Kafka, "late", options).await else { return };
    match &error {
        StartError::NotReady { waited, .. } => assert!(*waited <= Duration::from_millis(400)),
        StartError::Image { .. } => require::skip(&["kafka", "docker"], &error),
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn dropping_a_container_removes_it() {
    let options = StartOptions { run_label: "dropped".to_owned(), ..common::options(Via::Docker) };
    let Some(nats) = common::open(Backend::Nats, options).await else { return };
    assert_eq!(containers("dropped").await, 1);
    drop(nats);
    assert_eq!(containers("dropped").await, 0);
}
