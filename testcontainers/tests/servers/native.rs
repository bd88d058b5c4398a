//! Servers as child processes.

use std::io::{Read, Write};
use std::net::TcpStream;

use queuebench_system::queue::Durability;
use queuebench_testcontainers::{Availability, Backend, Provisioner, StartOptions, Via, survey};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

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
    assert!(kafka.version().starts_with("4."), "{}", kafka.version());
    common::survives_its_faults(&kafka).await;
}

#[tokio::test]
async fn power_loss_and_a_mebibyte_reach_the_nats_server() {
    for (durability, always) in [(Durability::ProcessCrash, false), (Durability::PowerLoss, true)] {
        let options = StartOptions { durability, ..common::options(Via::Native) };
        let Some(nats) = common::open(Backend::Nats, options).await else { return };
        let varz: serde_json::Value =
            serde_json::from_str(&get(&nats.monitoring_url().unwrap(), "/varz")).unwrap();
        let config = &varz["jetstream"]["config"];
        assert_eq!(config["sync_always"].as_bool().unwrap_or(false), always, "{config}");
        common::write(&nats, &"x".repeat(1024 * 1024)).await;
        nats.stop(common::STOP).await.unwrap();
    }
}

#[tokio::test]
async fn a_data_directory_that_was_given_is_kept_and_used_again() {
    let data = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let options = StartOptions {
        data_dir: Some(data.path().to_owned()),
        log_dir: Some(logs.path().to_owned()),
        name: Some("kept-one".to_owned()),
        ..common::options(Via::Native)
    };
    let Some(nats) = common::open(Backend::Nats, options.clone()).await else { return };
    common::write(&nats, "before").await;
    nats.stop(common::STOP).await.unwrap();
    let nats = common::open(Backend::Nats, options).await.unwrap();
    assert_eq!(common::read(&nats).await, ["before"]);
    nats.stop(common::STOP).await.unwrap();
    let log = std::fs::read_to_string(logs.path().join("kept-one.log")).unwrap();
    assert_eq!(log.matches("Server is ready").count(), 2, "{log}");
}

#[tokio::test]
async fn dropping_a_server_ends_it_and_removes_its_files() {
    let Some(nats) = common::open(Backend::Nats, common::options(Via::Native)).await else { return };
    let (pids, log) = (nats.pids(), nats.log_path().unwrap().to_owned());
    assert!(log.exists());
    drop(nats);
    assert!(!pids.iter().any(|&pid| common::is_alive(pid)));
    assert!(!log.parent().unwrap().exists());
}

#[tokio::test]
async fn a_survey_says_what_is_here_without_starting_it() {
    let Some(program) = common::nats_program().await else { return };
    let ways = survey(Backend::Nats, &common::options(Via::Auto)).await;
    let native = ways.iter().find(|way| way.provisioner == Provisioner::Native).unwrap();
    match &native.availability {
        Availability::Available { version: Some(version), what } => {
            assert!(version.starts_with("2."), "{version}");
            assert_eq!(*what, program.display().to_string());
        }
        other => panic!("{other:?}"),
    }
    let external = ways.iter().find(|way| way.provisioner == Provisioner::External).unwrap();
    assert!(!external.availability.is_open());
}

/// One Kafka for all that asks a server of its own, as its start takes seconds.
#[tokio::test]
async fn power_loss_a_mebibyte_and_an_external_client_reach_the_kafka_broker() {
    let options = StartOptions { durability: Durability::PowerLoss, ..common::options(Via::Native) };
    let Some(kafka) = common::open(Backend::Kafka, options).await else { return };
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().unwrap();
    let described =
        admin.describe_configs(&[ResourceSpecifier::Broker(1)], &AdminOptions::new()).await.unwrap();
    let broker = described[0].as_ref().unwrap();
    let setting = |name: &str| broker.get(name).unwrap().value.clone().unwrap();
    assert_eq!(setting("log.flush.interval.messages"), "1");
    assert_eq!(setting("auto.create.topics.enable"), "false");
    common::write(&kafka, &"x".repeat(1024 * 1024)).await;

    let address = kafka.address().to_owned();
    crate::external::is_met_and_left_alone(&kafka, &address).await;
    kafka.stop(common::STOP).await.unwrap();
}

fn get(base: &str, path: &str) -> String {
    let host = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
