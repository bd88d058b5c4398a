//! Servers that die, stop and return while messages are on their way.

use std::collections::BTreeSet;
use std::time::Duration;

use queuebench_system::message::Message;
use queuebench_system::queue::nats::{Nats, NatsConfig};
use queuebench_system::queue::{
    Delivery, Outcome, Publisher, Queue, QueueError, RejectReason, Subscriber, Token, UnknownReason,
};

use crate::block_on::block_on;
use crate::server::Server;
use crate::sink::Sink;
use crate::{numbered, options, publish, take};

fn quick(server: &Server, stream: &str) -> NatsConfig {
    NatsConfig {
        ping_interval_ms: 300,
        ack_timeout_ms: 1_000,
        ack_wait_ms: 1_500,
        max_in_flight: 500,
        ..server.config(stream)
    }
}

/// The server is killed twice amid a stream of messages from a thread without a runtime. Each message is
/// acknowledged, stored once, in order; the subscriber goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_amid_publishing_each_message_is_stored_once_and_in_order() {
    const COUNT: u64 = 20_000;
    let Some(mut server) = Server::start("") else { return };
    let queue = Nats::open(quick(&server, "KILLED")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    let mut subscriber = queue.subscriber(options(200)).await.unwrap();
    let consumer = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while seen.len() < usize::try_from(COUNT).unwrap() {
            let next = tokio::time::timeout(Duration::from_secs(60), subscriber.recv()).await;
            let delivery = next.expect("the subscriber hangs").unwrap();
            seen.insert(delivery.message().id.to_string());
            let _ = delivery.ack().await;
        }
        seen.len()
    });
    let sending = std::thread::spawn(move || {
        for n in 0..COUNT {
            let _pending = block_on(publisher.publish(numbered(n), Token(n))).unwrap();
        }
    });
    for settled in [3_000, 9_000] {
        sink.wait(settled);
        server.kill();
        server.run();
    }
    sending.join().unwrap();
    let outcomes = sink.wait(usize::try_from(COUNT).unwrap());
    let odd: Vec<_> = outcomes.iter().filter(|(_, o)| **o != Outcome::Acknowledged).take(5).collect();
    assert!(odd.is_empty(), "not acknowledged: {odd:?}");
    assert_eq!(consumer.await.unwrap() as u64, COUNT);
    assert_eq!(server.stored(), COUNT, "a message was stored twice or not at all");
    assert!(queue.statistics().reconnects >= 2);

    let mut reader = queue.subscriber(crate::group("auditor", 1_000)).await.unwrap();
    let payloads = take(&mut reader, usize::try_from(COUNT).unwrap()).await;
    let expected: Vec<String> = (0..COUNT).map(|n| format!("message {n}")).collect();
    assert!(payloads == expected, "the order of storage is not the order of publishing");
}

/// A server that stops answering without closing its connections is noticed; when it goes on, what was sent
/// twice is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_noticed_and_nothing_is_stored_twice() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(quick(&server, "PAUSED")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    publish(&publisher, 0..100).await;
    sink.wait(100);
    server.signal("-STOP");
    publish(&publisher, 100..400).await;
    assert_eq!(publisher.flush(Duration::from_secs(2)).await, 300);
    server.signal("-CONT");
    let outcomes = sink.wait(400);
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Acknowledged), "{outcomes:?}");
    assert_eq!(server.stored(), 400);
    assert_eq!(queue.statistics().acknowledged, 400);
    assert!(queue.statistics().reconnects > 0, "the connection was given up");
}

/// Without an id a second copy would be stored as a second message, so a break leaves the fate open.
#[tokio::test]
async fn a_message_without_an_id_is_never_sent_again() {
    let Some(mut server) = Server::start("") else { return };
    let queue = Nats::open(quick(&server, "NOID")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    server.signal("-STOP");
    for n in 0..50 {
        let _pending = publisher.publish(Message::new(format!("{n}")), Token(n)).await.unwrap();
    }
    let outcomes = tokio::task::spawn_blocking({
        let sink = sink.clone();
        move || sink.wait(50)
    });
    let outcomes = outcomes.await.unwrap();
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "{outcomes:?}");
    server.kill();
    server.run();
    let _pending = publisher.publish(Message::new("after"), Token(50)).await.unwrap();
    assert_eq!(publisher.flush(Duration::from_secs(20)).await, 0);
    assert_eq!(sink.all()[&50], Outcome::Acknowledged);
    assert!(server.stored() <= 51);
    assert_eq!(queue.statistics().unknown, 50);
}

/// During an outage messages wait in their slots; what cannot be sent in time is settled, not forgotten.
#[tokio::test]
async fn an_outage_longer_than_the_retries_settles_everything() {
    let Some(mut server) = Server::start("") else { return };
    let config = NatsConfig { retry_for_ms: 1_500, max_in_flight: 8, ..quick(&server, "OUTAGE") };
    let queue = Nats::open(config).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    server.signal("-STOP");
    publish(&publisher, 0..4).await;
    server.kill();
    publish(&publisher, 4..8).await;
    // The window is full now: the next one waits until one is given up.
    publish(&publisher, 8..9).await;
    assert_eq!(publisher.flush(Duration::from_secs(20)).await, 0);
    for (token, outcome) in sink.all() {
        let expected = matches!(
            outcome,
            Outcome::Unknown(UnknownReason::Disconnected | UnknownReason::TimedOut)
                | Outcome::Rejected(RejectReason::NotSent)
        );
        assert!(expected, "{token}: {outcome:?}");
    }
    let statistics = queue.statistics();
    assert_eq!(statistics.accepted, statistics.unknown + statistics.rejected);
}

/// Closing keeps its deadline when the server does not answer, and leaves no token without an outcome.
#[tokio::test]
async fn closing_keeps_its_deadline() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(server.config("DEADLINE")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    server.signal("-STOP");
    publish(&publisher, 0..10).await;
    let begin = std::time::Instant::now();
    let closed = queue.close(Duration::from_millis(300)).await;
    assert_eq!(closed, Err(QueueError::CloseDeadline { backend: "nats", outstanding: 10 }));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(sink.all().values().all(|outcome| matches!(outcome, Outcome::Unknown(_))));
    assert_eq!(sink.all().len(), 10);
    server.signal("-CONT");
}

/// The runtime that owned the connection goes away: its messages are settled, and another one takes over.
#[test]
fn a_runtime_that_ends_settles_its_messages() {
    let Some(server) = Server::start("") else { return };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let main = runtime();
    let queue = main.block_on(Nats::open(server.config("RUNTIME"))).unwrap();
    let sink = Sink::new();
    let short_lived = runtime();
    let publisher = short_lived.block_on(queue.publisher(sink.clone())).unwrap();
    block_on(publish(&publisher, 0..10));
    drop(short_lived);
    let outcomes = sink.wait(10);
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "{outcomes:?}");
    assert!(block_on(publisher.publish(numbered(10), Token(10))).is_err());
    main.block_on(async {
        let next = queue.publisher(sink.clone()).await.unwrap();
        publish(&next, 11..12).await;
        assert_eq!(next.flush(Duration::from_secs(10)).await, 0);
    });
    assert_eq!(sink.all()[&11], Outcome::Acknowledged);
}
