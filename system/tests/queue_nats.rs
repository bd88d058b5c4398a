//! The NATS backend against a real nats-server with JetStream and file storage.
#![cfg(feature = "nats")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests, and what they skip has to be seen")]

#[path = "queue_nats/access.rs"]
mod access;
#[path = "queue_nats/block_on.rs"]
mod block_on;
#[path = "queue_nats/conforms.rs"]
mod conforms;
#[path = "queue_nats/consuming.rs"]
mod consuming;
#[path = "queue_nats/faults.rs"]
mod faults;
#[path = "queue_nats/opening.rs"]
mod opening;
#[path = "support/ports.rs"]
mod ports;
#[path = "queue_nats/server.rs"]
mod server;
#[path = "queue_nats/sink.rs"]
mod sink;

use std::time::Duration;

use queuebench_system::message::Message;
use queuebench_system::queue::nats::{Nats, NatsPublisher, NatsSubscriber};
use queuebench_system::queue::{
    Acknowledge, Delivery, Outcome, Publisher, Queue, SubscribeOptions, Subscriber, Token,
};
use server::Server;
use sink::Sink;

fn options(prefetch: usize) -> SubscribeOptions {
    group("workers", prefetch)
}

fn group(name: &str, prefetch: usize) -> SubscribeOptions {
    SubscribeOptions { group: name.to_owned(), prefetch, acknowledge: Acknowledge::Explicit }
}

fn numbered(n: u64) -> Message {
    Message::new(format!("message {n}")).with_id(format!("id-{n}"))
}

async fn publish(publisher: &NatsPublisher, tokens: std::ops::Range<u64>) {
    for n in tokens {
        let _pending = publisher.publish(numbered(n), Token(n)).await.unwrap();
    }
}

/// Takes and acknowledges `count` messages; the payloads in order of arrival.
async fn take(subscriber: &mut NatsSubscriber, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let delivery =
            tokio::time::timeout(Duration::from_secs(60), subscriber.recv()).await.unwrap().unwrap();
        payloads.push(String::from_utf8(delivery.message().payload.to_vec()).unwrap());
        delivery.ack().await.unwrap();
    }
    payloads
}

#[tokio::test]
async fn what_is_acknowledged_arrives_in_order_with_all_its_parts() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(server.config("ORDER")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    let mut full = numbered(0).with_key("k-ü");
    full.headers = vec![("trace".into(), "a: b".into())];
    let _pending = publisher.publish(full.clone(), Token(0)).await.unwrap();
    publish(&publisher, 1..2_000).await;
    assert_eq!(publisher.flush(Duration::from_secs(20)).await, 0);
    let outcomes = sink.all();
    assert_eq!(outcomes.len(), 2_000);
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Acknowledged));

    let mut subscriber = queue.subscriber(options(100)).await.unwrap();
    let first = subscriber.recv().await.unwrap();
    assert_eq!(*first.message(), full);
    assert_eq!(first.attempt(), Some(1));
    first.ack().await.unwrap();
    let payloads = take(&mut subscriber, 1_999).await;
    let expected: Vec<String> = (1..2_000).map(|n| format!("message {n}")).collect();
    assert_eq!(payloads, expected);
    queue.close(Duration::from_secs(5)).await.unwrap();
    let statistics = queue.statistics();
    assert_eq!((statistics.accepted, statistics.acknowledged), (2_000, 2_000));
    assert_eq!((statistics.delivered, statistics.acked, statistics.nacked), (2_000, 2_000, 0));
    assert_eq!(statistics.reconnects, 0);
}
