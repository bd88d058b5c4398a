//! The exactly-once mode: what readers see of committed and aborted groups.

use std::collections::BTreeSet;
use std::time::Duration;

use queuebench_system::queue::kafka::{KafkaConfig, Transactions};
use queuebench_system::queue::{
    Delivery, DeliveryPromise, Outcome, PublishError, Publisher, Queue, RejectReason, Token,
};

use super::common::{
    Outcomes, PATIENCE, eventually, fresh, number_of, numbered, open, options, options_as, receive,
    shared_broker, stays_silent,
};

fn transactional(brokers: &str, name: &str) -> KafkaConfig {
    let mut config = fresh(brokers, name);
    config.transactions = Some(Transactions::new(config.topic.clone()));
    config
}

#[tokio::test]
async fn messages_become_visible_with_their_group_and_only_then_are_acknowledged() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = transactional(brokers, "visible");
    config.transactions.as_mut().unwrap().interval_ms = 20_000;
    let queue = open(config.clone()).await;
    assert_eq!(queue.promise().delivery, DeliveryPromise::ExactlyOnce);
    let mut reader = queue.subscriber(options(queue.config())).await.unwrap();
    config.transactions = None;
    let dirty = open(config).await;
    let mut dirty_reader = dirty.subscriber(options_as("dirty", dirty.config())).await.unwrap();

    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for number in 0..50 {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    // They are in the log already, as whoever reads uncommitted data sees.
    for _ in 0..50 {
        receive(&mut dirty_reader).await.ack().await.unwrap();
    }
    assert!(stays_silent(&mut reader).await, "read before the commit");
    assert_eq!(outcomes.len(), 0, "acknowledged before the commit");
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    assert_eq!(outcomes.count(Outcome::Acknowledged), 50);
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let delivery = receive(&mut reader).await;
        assert!(seen.insert(number_of(&delivery)));
        delivery.ack().await.unwrap();
    }
    dirty.close(PATIENCE).await.unwrap();
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn groups_end_by_number_and_by_age_and_many_follow_each_other() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = transactional(brokers, "groups");
    config.transactions.as_mut().unwrap().max_messages = 100;
    let queue = open(config).await;
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for number in 0..1_050 {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    // Nobody flushes: the last half-full group ends by its age.
    eventually("outcomes", async || outcomes.count(Outcome::Acknowledged), |count| *count == 1_050).await;
    let mut reader = queue.subscriber(options(queue.config())).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 1_050 {
        let delivery = receive(&mut reader).await;
        assert!(seen.insert(number_of(&delivery)), "twice");
        delivery.ack().await.unwrap();
    }
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn an_aborted_group_is_rejected_and_never_seen() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = transactional(brokers, "aborted");
    config.transactions.as_mut().unwrap().interval_ms = 20_000;
    // One message of the group is refused by the broker, so the whole group is.
    config.topic_settings.insert("max.message.bytes".to_owned(), "1000".to_owned());
    config.batch_bytes = 500;
    let queue = open(config).await;
    let mut reader = queue.subscriber(options(queue.config())).await.unwrap();
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for number in 0..10 {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    let mut large = numbered(10);
    large.payload = vec![7; 5_000].into();
    let _ = publisher.publish(large, Token(10)).await.unwrap();
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    assert_eq!(outcomes.count(Outcome::Rejected(RejectReason::NotSent)), 11);
    // The next group is not affected.
    let _ = publisher.publish(numbered(11), Token(11)).await.unwrap();
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    assert_eq!(outcomes.of(11), Some(Outcome::Acknowledged));
    let delivery = receive(&mut reader).await;
    assert_eq!(number_of(&delivery), 11, "something of the aborted group was seen");
    delivery.ack().await.unwrap();
    assert!(stays_silent(&mut reader).await);
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn a_second_producer_of_the_same_name_fences_the_first() {
    let Some(brokers) = shared_broker() else { return };
    let config = transactional(brokers, "fenced");
    let old = open(config.clone()).await;
    let old_outcomes = Outcomes::new();
    let old_publisher = old.publisher(old_outcomes.clone()).await.unwrap();
    let _ = old_publisher.publish(numbered(0), Token(0)).await.unwrap();
    assert_eq!(old_publisher.flush(PATIENCE).await, 0);
    let new = open(config).await;
    let new_outcomes = Outcomes::new();
    let new_publisher = new.publisher(new_outcomes.clone()).await.unwrap();
    let _ = new_publisher.publish(numbered(1), Token(1)).await.unwrap();
    assert_eq!(new_publisher.flush(PATIENCE).await, 0);
    assert_eq!(new_outcomes.of(1), Some(Outcome::Acknowledged));
    let _ = old_publisher.publish(numbered(2), Token(2)).await.unwrap();
    assert_eq!(old_publisher.flush(PATIENCE).await, 0);
    assert!(
        matches!(old_outcomes.of(2), Some(Outcome::Unknown(_) | Outcome::Rejected(_))),
        "{:?}",
        old_outcomes.of(2)
    );
    let error = old_publisher.publish(numbered(3), Token(3)).await.unwrap_err();
    assert!(matches!(error, PublishError::Client { .. }), "{error}");
    let mut reader = new.subscriber(options(new.config())).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let delivery = receive(&mut reader).await;
        seen.insert(number_of(&delivery));
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, BTreeSet::from([0, 1]));
    assert!(stays_silent(&mut reader).await);
    let _ = old.close(Duration::from_secs(5)).await;
    new.close(PATIENCE).await.unwrap();
    old.remove().await.unwrap();
}
