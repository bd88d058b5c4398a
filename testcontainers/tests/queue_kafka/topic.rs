//! Opening: what is created, what clashes, what cannot be reached, what the server says of itself.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use queuebench_system::queue::kafka::{Kafka, Sasl, SaslMechanism, Secret};
use queuebench_system::queue::{Durability, Queue, QueueError};

use super::common::{fresh, open, publish_all, shared_broker};

#[tokio::test]
async fn every_setting_that_differs_is_named_and_the_topic_left_alone() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "clash");
    config.partitions = 3;
    let first = open(config.clone()).await;
    config.partitions = 5;
    config.durability = Durability::PowerLoss;
    config.topic_settings.insert("retention.ms".to_owned(), "1000".to_owned());
    config.topic_settings.insert("no.such".to_owned(), "x".to_owned());
    let error = Kafka::open(config.clone()).await.unwrap_err();
    let QueueError::Clash { name, differences, .. } = &error else { panic!("{error}") };
    assert_eq!(*name, config.topic);
    for difference in [
        "partitions: 3 there, 5 wanted",
        "flush.messages: 9223372036854775807 there, 1 wanted",
        "retention.ms: 604800000 there, 1000 wanted",
        "no.such: unknown to the broker, x wanted",
    ] {
        assert!(differences.contains(difference), "{difference:?} is not in {differences:?}");
    }
    let settings = first.effective_settings().await.unwrap();
    assert_eq!(settings["topic.partitions"], "3");
    first.remove().await.unwrap();
}

#[tokio::test]
async fn power_loss_is_a_setting_of_the_topic_that_the_server_confirms() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "durable");
    config.durability = Durability::PowerLoss;
    let queue = open(config).await;
    publish_all(&queue, 0..100).await;
    let settings = queue.effective_settings().await.unwrap();
    assert_eq!(settings["topic.flush.messages"], "1");
    assert_eq!(settings["topic.cleanup.policy"], "delete");
    assert_eq!(settings["topic.replicas"], "1");
    assert!(settings.contains_key("broker.log.flush.interval.messages"), "{settings:?}");
    assert_eq!(queue.promise().durability, Durability::PowerLoss);
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn only_what_this_queue_created_is_removed() {
    let Some(brokers) = shared_broker() else { return };
    let config = fresh(brokers, "removed");
    let creator = open(config.clone()).await;
    let guest = open(config.clone()).await;
    publish_all(&guest, 0..10).await;
    guest.remove().await.unwrap();
    assert_eq!(guest.depth().await.unwrap().ready, Some(10), "a guest removes nothing");
    creator.remove().await.unwrap();
    let again = open(config).await;
    assert_eq!(again.depth().await.unwrap().ready, Some(0), "made anew");
    again.remove().await.unwrap();
}

#[tokio::test]
async fn more_replicas_than_brokers_is_an_error_that_counts_them() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "replicas");
    config.replication = 3;
    let error = Kafka::open(config).await.unwrap_err().to_string();
    assert!(error.contains("3 replicas wanted of 1 brokers"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_an_error_within_the_limit_with_the_last_words() {
    // A port that nothing listens on: bound once, so known to be free, and released.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = fresh(&format!("127.0.0.1:{port}"), "nobody");
    config.connect_timeout_ms = 1_500;
    let started = Instant::now();
    let error = Kafka::open(config).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_login_that_the_broker_does_not_know_is_an_error_within_the_limit() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "login");
    config.connect_timeout_ms = 2_000;
    config.sasl = Some(Sasl {
        mechanism: SaslMechanism::Plain,
        username: "user".to_owned(),
        password: Secret::new("hunter2"),
    });
    let started = Instant::now();
    let error = Kafka::open(config).await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(error.contains("SASL"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
