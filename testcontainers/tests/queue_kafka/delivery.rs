//! Who gets what, how often, and what an answer does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use queuebench_system::message::Message;
use queuebench_system::queue::{
    Acknowledge, Delivery, Outcome, PublishError, Publisher, Queue, RejectReason, Subscriber, Token,
};

use super::common::{
    Outcomes, PATIENCE, eventually, fresh, number_of, numbered, open, options, publish_all, receive,
    shared_broker, stays_silent,
};

/// Drives a future on an ordinary thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn everything_works_on_a_thread_without_a_runtime_and_at_the_bound() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "plain-thread");
    config.max_in_flight = 8;
    let queue = block_on(open(config));
    let outcomes = Outcomes::new();
    let publisher = block_on(queue.publisher(outcomes.clone())).unwrap();
    for number in 0..2_000 {
        let _ = block_on(publisher.publish(numbered(number), Token(number as u64))).unwrap();
        let statistics = queue.statistics();
        assert!(statistics.accepted - statistics.acknowledged <= 8, "{statistics:?}");
    }
    assert_eq!(block_on(publisher.flush(PATIENCE)), 0);
    assert_eq!(outcomes.count(Outcome::Acknowledged), 2_000);
    let mut subscriber = block_on(queue.subscriber(options(queue.config()))).unwrap();
    let mut missing: BTreeSet<usize> = (0..2_000).collect();
    while !missing.is_empty() {
        let delivery = block_on(subscriber.recv()).unwrap();
        assert!(missing.remove(&number_of(&delivery)), "twice");
        block_on(delivery.ack()).unwrap();
    }
    block_on(queue.close(PATIENCE)).unwrap();
    block_on(queue.remove()).unwrap();
}

#[tokio::test]
async fn the_first_message_does_not_wait_for_the_producers_id() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "first");
    config.linger_ms = 0;
    let queue = open(config).await;
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    let started = Instant::now();
    let _ = publisher.publish(numbered(0), Token(0)).await.unwrap();
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_after_a_restart_and_nothing_else() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "again");
    config.partitions = 1;
    let queue = open(config.clone()).await;
    publish_all(&queue, 0..10).await;
    let mut first = queue.subscriber(options(queue.config())).await.unwrap();
    let mut held = Vec::new();
    for number in 0..10 {
        let delivery = receive(&mut first).await;
        assert_eq!(number_of(&delivery), number);
        // 0..4 are a processed prefix; 4 and 7 stay open, so nothing after 4 may be committed.
        if number == 4 || number == 7 { held.push(delivery) } else { delivery.ack().await.unwrap() }
    }
    assert_eq!(
        queue.close(Duration::from_millis(100)).await.unwrap_err().to_string(),
        "kafka closed at its deadline with 2 messages unanswered"
    );
    drop(held);
    let again = open(config).await;
    let mut second = again.subscriber(options(again.config())).await.unwrap();
    for number in 4..10 {
        let delivery = receive(&mut second).await;
        assert_eq!(number_of(&delivery), number);
        delivery.ack().await.unwrap();
    }
    assert!(stays_silent(&mut second).await);
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn a_delivery_given_back_or_dropped_comes_again_with_its_count_and_not_before_its_delay() {
    let Some(brokers) = shared_broker() else { return };
    let queue = open(fresh(brokers, "nack")).await;
    publish_all(&queue, 0..1).await;
    let mut subscriber = queue.subscriber(options(queue.config())).await.unwrap();
    let delivery = receive(&mut subscriber).await;
    assert_eq!(delivery.attempt(), None, "Kafka does not know");
    drop(delivery);
    let mut delivery = receive(&mut subscriber).await;
    assert_eq!((number_of(&delivery), delivery.attempt()), (0, Some(2)));
    assert_eq!(delivery.take_message(), numbered(0));
    let given_back = Instant::now();
    delivery.nack(Duration::from_millis(300)).await.unwrap();
    let delivery = receive(&mut subscriber).await;
    assert!(given_back.elapsed() >= Duration::from_millis(300));
    assert_eq!((number_of(&delivery), delivery.attempt()), (0, Some(3)));
    delivery.ack().await.unwrap();
    let statistics = queue.statistics();
    assert_eq!(
        (statistics.delivered, statistics.redelivered, statistics.acked, statistics.nacked),
        (3, 2, 1, 2)
    );
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_prefetch_is_held_and_every_answer_makes_room() {
    let Some(brokers) = shared_broker() else { return };
    let queue = open(fresh(brokers, "prefetch")).await;
    publish_all(&queue, 0..50).await;
    let mut narrow = options(queue.config());
    narrow.prefetch = 3;
    let mut subscriber = queue.subscriber(narrow).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(receive(&mut subscriber).await);
    }
    assert!(stays_silent(&mut subscriber).await);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.unacknowledged), (Some(47), Some(3)));
    for _ in 0..47 {
        held.remove(0).ack().await.unwrap();
        held.push(receive(&mut subscriber).await);
    }
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    eventually("depth", async || queue.depth().await.unwrap().total(), |total| *total == Some(0)).await;
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn a_partition_that_moves_takes_its_unanswered_messages_along() {
    let Some(brokers) = shared_broker() else { return };
    let queue = open(fresh(brokers, "rebalance")).await;
    publish_all(&queue, 0..64).await;
    let mut one = queue.subscriber(options(queue.config())).await.unwrap();
    let mut held = Vec::new();
    let mut done = BTreeSet::new();
    for position in 0..64 {
        let delivery = receive(&mut one).await;
        if position % 2 == 0 {
            done.insert(number_of(&delivery));
            delivery.ack().await.unwrap();
        } else {
            held.push(delivery);
        }
    }
    let mut two = queue.subscriber(options(queue.config())).await.unwrap();
    // Its share of the partitions, from the first message that was not processed in each.
    let first = receive(&mut two).await;
    let mut moved = BTreeSet::from([number_of(&first)]);
    first.ack().await.unwrap();
    let (mut refused, mut taken) = (0, 0);
    for delivery in held {
        let number = number_of(&delivery);
        match delivery.ack().await {
            Ok(()) => {
                taken += 1;
                done.insert(number);
            }
            Err(error) => {
                assert!(error.reason.contains("delivered again"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no partition moved");
    assert!(taken > 0, "all partitions moved");
    while done.union(&moved).count() < 64 {
        let delivery = receive(&mut two).await;
        moved.insert(number_of(&delivery));
        delivery.ack().await.unwrap();
    }
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn acknowledged_on_receive_is_never_delivered_again() {
    let Some(brokers) = shared_broker() else { return };
    let queue = open(fresh(brokers, "once-at-most")).await;
    publish_all(&queue, 0..20).await;
    let mut at_most_once = options(queue.config());
    at_most_once.acknowledge = Acknowledge::OnReceive;
    let mut first = queue.subscriber(at_most_once.clone()).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let delivery = receive(&mut first).await;
        assert!(seen.insert(number_of(&delivery)));
        drop(delivery);
    }
    drop(first);
    let mut second = queue.subscriber(at_most_once).await.unwrap();
    assert!(stays_silent(&mut second).await);
    queue.close(PATIENCE).await.unwrap();
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn a_publisher_dropped_with_messages_in_flight_still_sends_and_reports_them() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "dropped");
    config.linger_ms = 200;
    let queue = open(config).await;
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for number in 0..100 {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    assert_eq!(outcomes.len(), 0, "the batch still waits");
    drop(publisher);
    eventually("outcomes", async || outcomes.count(Outcome::Acknowledged), |count| *count == 100).await;
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn closing_gives_every_accepted_message_an_outcome_and_refuses_the_rest() {
    let Some(brokers) = shared_broker() else { return };
    let queue = Arc::new(open(fresh(brokers, "closing")).await);
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    let publishing = tokio::spawn(async move {
        let mut accepted = 0;
        loop {
            match publisher.publish(numbered(accepted), Token(accepted as u64)).await {
                Ok(_) => accepted += 1,
                Err(PublishError::Closed) => return accepted,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    eventually("started", async || outcomes.len(), |count| *count > 100).await;
    queue.close(PATIENCE).await.unwrap();
    let accepted = publishing.await.unwrap();
    assert_eq!(outcomes.count(Outcome::Acknowledged), accepted);
    let statistics = queue.statistics();
    assert_eq!((statistics.accepted, statistics.refused), (accepted as u64, 1));
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn what_the_topic_refuses_is_rejected_and_the_others_go_on() {
    let Some(brokers) = shared_broker() else { return };
    let mut config = fresh(brokers, "refused");
    // The broker's limit is below the client's, so the refusal is the broker's.
    config.topic_settings.insert("max.message.bytes".to_owned(), "1000".to_owned());
    config.batch_bytes = 500;
    let queue = open(config).await;
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for (token, size) in [(0, 10), (1, 2_000), (2, 10)] {
        let _ = publisher.publish(Message::new(vec![7; size]).with_key("k"), Token(token)).await.unwrap();
        assert_eq!(publisher.flush(PATIENCE).await, 0);
    }
    assert_eq!(outcomes.of(0), Some(Outcome::Acknowledged));
    assert_eq!(outcomes.of(1), Some(Outcome::Rejected(RejectReason::TooLarge)));
    assert_eq!(outcomes.of(2), Some(Outcome::Acknowledged));
    queue.remove().await.unwrap();
}

#[tokio::test]
async fn headers_that_kafka_cannot_carry_are_refused_by_name() {
    let Some(brokers) = shared_broker() else { return };
    let queue = open(fresh(brokers, "headers")).await;
    let publisher = queue.publisher(Outcomes::new()).await.unwrap();
    let mut message = numbered(0);
    message.headers.push((b"message_id"[..].into(), b"other"[..].into()));
    let error = publisher.publish(message, Token(0)).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Invalid { .. }) && error.to_string().contains("`message_id`"),
        "{error}"
    );
    queue.remove().await.unwrap();
}
