//! Redelivery, sharing, bounds and the ways of acknowledging.

use std::collections::BTreeSet;
use std::time::Duration;

use queuebench_system::queue::nats::{Nats, NatsConfig, NatsRetention};
use queuebench_system::queue::{Acknowledge, Delivery, Publisher, Queue, SubscribeOptions, Subscriber};

use crate::server::Server;
use crate::sink::Sink;
use crate::{options, publish, take};

async fn filled(config: NatsConfig, count: u64) -> Nats {
    let queue = Nats::open(config).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    publish(&publisher, 0..count).await;
    assert_eq!(publisher.flush(Duration::from_secs(20)).await, 0);
    queue
}

#[tokio::test]
async fn what_is_not_answered_comes_again_after_the_ack_wait_and_not_before() {
    let Some(server) = Server::start("") else { return };
    let queue = filled(NatsConfig { ack_wait_ms: 1_000, ..server.config("WAIT") }, 3).await;
    let mut subscriber = queue.subscriber(options(10)).await.unwrap();
    let dropped = subscriber.recv().await.unwrap();
    let begin = std::time::Instant::now();
    drop(dropped);
    assert_eq!(take(&mut subscriber, 2).await, ["message 1", "message 2"]);
    let again = subscriber.recv().await.unwrap();
    assert_eq!(again.message().payload, "message 0");
    assert_eq!(again.attempt(), Some(2));
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    again.nack(Duration::from_millis(500)).await.unwrap();
    let begin = std::time::Instant::now();
    let third = subscriber.recv().await.unwrap();
    assert_eq!(third.attempt(), Some(3));
    assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
    third.ack().await.unwrap();
    let statistics = queue.statistics();
    assert_eq!((statistics.delivered, statistics.redelivered), (5, 2));
    assert_eq!((statistics.acked, statistics.nacked), (3, 2));
}

/// A subscriber that goes away gives back what it had not handed out at once, not after the ack wait.
#[tokio::test]
async fn prefetched_messages_return_when_their_subscriber_goes() {
    let Some(server) = Server::start("") else { return };
    let queue = filled(NatsConfig { ack_wait_ms: 60_000, ..server.config("RETURN") }, 100).await;
    let mut first = queue.subscriber(options(100)).await.unwrap();
    let one = first.recv().await.unwrap();
    one.ack().await.unwrap();
    drop(first);
    let mut second = queue.subscriber(options(100)).await.unwrap();
    let rest: BTreeSet<String> = take(&mut second, 99).await.into_iter().collect();
    assert_eq!(rest.len(), 99);
    queue.close(Duration::from_secs(5)).await.unwrap();
}

/// Never more than `prefetch` messages are out with a subscriber, waiting or in its hands.
#[tokio::test]
async fn prefetch_bounds_what_the_server_hands_over() {
    let Some(server) = Server::start("") else { return };
    let queue = filled(server.config("BOUND"), 100).await;
    let mut subscriber = queue.subscriber(options(10)).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 10 {
        subscriber.recv_batch(100, &mut held).await.unwrap();
    }
    assert_eq!(held.len(), 10);
    let more = tokio::time::timeout(Duration::from_millis(600), subscriber.recv()).await;
    assert!(more.is_err(), "an eleventh message came");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.unacknowledged), (Some(90), Some(10)));
    for delivery in held.drain(..) {
        delivery.ack().await.unwrap();
    }
    assert_eq!(take(&mut subscriber, 90).await.len(), 90);
}

#[tokio::test]
async fn an_acknowledgement_can_be_confirmed() {
    let Some(server) = Server::start("") else { return };
    let queue = filled(NatsConfig { confirm_acks: true, ..server.config("CONFIRM") }, 20).await;
    let mut subscriber = queue.subscriber(options(20)).await.unwrap();
    for left in (0..20).rev() {
        subscriber.recv().await.unwrap().ack().await.unwrap();
        // Confirmed, so the server has counted it: no need to ask twice.
        let depth = queue.depth().await.unwrap();
        assert_eq!(depth.total(), Some(left));
    }
}

#[tokio::test]
async fn acknowledging_on_receipt_leaves_nothing_to_answer() {
    let Some(server) = Server::start("") else { return };
    for (stream, retention) in [("RECEIPT", NatsRetention::Limits), ("RECEIPTWQ", NatsRetention::WorkQueue)] {
        let queue = filled(NatsConfig { retention, ack_wait_ms: 300, ..server.config(stream) }, 50).await;
        let on_receipt = SubscribeOptions { acknowledge: Acknowledge::OnReceive, ..options(10) };
        let mut subscriber = queue.subscriber(on_receipt).await.unwrap();
        for n in 0..50 {
            let delivery = subscriber.recv().await.unwrap();
            assert_eq!(delivery.message().payload, format!("message {n}"));
            drop(delivery);
        }
        let again = tokio::time::timeout(Duration::from_millis(800), subscriber.recv()).await;
        assert!(again.is_err(), "{stream}: a message came twice");
        assert_eq!(queue.statistics().acked, 50);
        queue.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn a_deleted_consumer_is_an_error_not_a_silence() {
    let Some(server) = Server::start("") else { return };
    let queue = filled(server.config("GONE"), 1).await;
    let mut subscriber = queue.subscriber(options(10)).await.unwrap();
    assert_eq!(take(&mut subscriber, 1).await.len(), 1);
    let waiting = tokio::spawn(async move { subscriber.recv().await.map(drop) });
    queue.remove().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert!(ended.is_err());
}
