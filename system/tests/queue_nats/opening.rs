//! Streams that are there already, limits, and what the server says of itself.

use std::time::{Duration, Instant};

use queuebench_system::message::Message;
use queuebench_system::queue::nats::{Nats, NatsConfig, NatsRetention, NatsStorage};
use queuebench_system::queue::{
    Durability, Outcome, PublishError, Publisher, Queue, QueueError, RejectReason, Token,
};

use crate::server::Server;
use crate::sink::Sink;
use crate::{numbered, options, publish, take};

#[tokio::test]
async fn a_stream_with_other_settings_is_a_clash_that_names_them_and_stays_as_it_is() {
    let Some(server) = Server::start("") else { return };
    let config = NatsConfig { max_messages: Some(10), ..server.config("CLASH") };
    let first = Nats::open(config.clone()).await.unwrap();
    let other = NatsConfig {
        max_messages: Some(11),
        duplicate_window_ms: 90_000,
        retention: NatsRetention::WorkQueue,
        ..config.clone()
    };
    let error = Nats::open(other).await.unwrap_err();
    let QueueError::Clash { name, differences, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "CLASH");
    for part in ["max_messages is 10, wanted 11", "duplicate_window", "retention"] {
        assert!(differences.contains(part), "{differences}");
    }
    assert!(!differences.contains("max_bytes"), "{differences}");
    // The same settings are no clash, and the second opener does not own the stream.
    let second = Nats::open(config.clone()).await.unwrap();
    second.remove().await.unwrap();
    assert_eq!(server.stored(), 0);

    let overlap = NatsConfig { stream: "OTHER".to_owned(), ..config };
    let error = Nats::open(overlap).await.unwrap_err();
    assert!(matches!(&error, QueueError::Clash { name, .. } if name == "OTHER"), "{error}");
    first.remove().await.unwrap();
    assert!(first.depth().await.is_err(), "the stream should be gone");
}

#[tokio::test]
async fn removing_takes_back_only_what_this_queue_created() {
    let Some(server) = Server::start("") else { return };
    let owner = Nats::open(server.config("MINE")).await.unwrap();
    let _theirs = owner.subscriber(options(1)).await.unwrap();
    let guest = Nats::open(server.config("MINE")).await.unwrap();
    let _same = guest.subscriber(options(1)).await.unwrap();
    let _own = guest.subscriber(crate::group("guest", 1)).await.unwrap();
    guest.remove().await.unwrap();
    let settings = owner.effective_settings().await.unwrap();
    assert_eq!(settings["stream.name"], "MINE");
    assert_eq!(owner.depth().await.unwrap().total(), Some(0));
    // The guest's own consumer is gone; the one that was there is not.
    assert_eq!(server.consumers(), 1);
}

#[tokio::test]
async fn consumers_with_other_settings_clash() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(server.config("CONSUMERS")).await.unwrap();
    let _first = queue.subscriber(options(1)).await.unwrap();
    let other = Nats::open(NatsConfig { ack_wait_ms: 7_000, ..server.config("CONSUMERS") }).await.unwrap();
    let error = other.subscriber(options(1)).await.unwrap_err();
    assert!(error.to_string().contains("ack_wait is 30s, wanted 7s"), "{error}");
}

#[tokio::test]
async fn a_full_stream_rejects_and_the_client_says_so() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(NatsConfig { max_messages: Some(5), ..server.config("FULL") }).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    publish(&publisher, 0..8).await;
    assert_eq!(publisher.flush(Duration::from_secs(10)).await, 0);
    let outcomes = sink.all();
    assert!((0..5).all(|n| outcomes[&n] == Outcome::Acknowledged), "{outcomes:?}");
    assert!((5..8).all(|n| outcomes[&n] == Outcome::Rejected(RejectReason::Full)), "{outcomes:?}");
    assert_eq!(queue.statistics().rejected, 3);
    assert_eq!(queue.statistics().capacity, Some(5));
    let mut subscriber = queue.subscriber(options(10)).await.unwrap();
    assert_eq!(take(&mut subscriber, 5).await[4], "message 4");
}

#[tokio::test]
async fn a_stream_full_of_bytes_rejects_too() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(NatsConfig { max_bytes: Some(10_000), ..server.config("BYTES") }).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    for n in 0..2 {
        let _pending = publisher.publish(Message::new(vec![1; 6_000]), Token(n)).await.unwrap();
    }
    assert_eq!(publisher.flush(Duration::from_secs(10)).await, 0);
    assert_eq!(sink.all()[&1], Outcome::Rejected(RejectReason::Full));
}

#[tokio::test]
async fn a_second_copy_is_dropped_and_counted() {
    let Some(server) = Server::start("") else { return };
    let queue = Nats::open(server.config("DEDUP")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    publish(&publisher, 0..10).await;
    for n in 0..10 {
        let _pending = publisher.publish(numbered(n), Token(100 + n)).await.unwrap();
    }
    assert_eq!(publisher.flush(Duration::from_secs(10)).await, 0);
    assert!(sink.all().values().all(|outcome| *outcome == Outcome::Acknowledged));
    assert_eq!(queue.statistics().deduplicated, 10);
    assert_eq!(server.stored(), 10);
}

#[tokio::test]
async fn a_message_over_the_servers_limit_is_refused_before_it_is_sent() {
    let Some(server) = Server::start("max_payload: 2000") else { return };
    let queue = Nats::open(server.config("LIMIT")).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    let too_large = publisher.publish(Message::new(vec![0; 2_001]), Token(0)).await;
    assert_eq!(too_large, Err(PublishError::TooLarge { size: 2_001, limit: 2_000 }));
    // Headers count.
    let with_id = publisher.publish(Message::new(vec![0; 1_990]).with_id("x"), Token(1)).await;
    assert_eq!(with_id, Err(PublishError::TooLarge { size: 2_018, limit: 2_000 }));
    let _pending = publisher.publish(Message::new(vec![0; 2_000]), Token(2)).await.unwrap();
    assert_eq!(publisher.flush(Duration::from_secs(10)).await, 0);
    assert_eq!(sink.all()[&2], Outcome::Acknowledged);
    let statistics = queue.statistics();
    assert_eq!((statistics.refused, statistics.accepted), (2, 1));
}

#[tokio::test]
async fn power_loss_is_promised_only_if_the_server_syncs_first() {
    let Some(lazy) = Server::start("") else { return };
    let wanted = |server: &Server| NatsConfig { durability: Durability::PowerLoss, ..server.config("POWER") };
    let error = Nats::open(wanted(&lazy)).await.unwrap_err();
    assert!(matches!(&error, QueueError::Setting { setting: "durability", .. }), "{error}");
    assert!(error.to_string().contains("sync_interval: always"), "{error}");

    let strict = Server::start_with("", "sync_interval: always").unwrap();
    let queue = Nats::open(wanted(&strict)).await.unwrap();
    assert_eq!(queue.promise().durability, Durability::PowerLoss);
    let settings = queue.effective_settings().await.unwrap();
    assert_eq!(settings["jetstream.sync_always"], "true");
    assert_eq!(settings["stream.storage"], "file");
    assert_eq!(settings["stream.discard"], "new");
    assert_eq!(settings["max_payload_bytes"], "1048576");
    assert!(settings["version"].starts_with("2."), "{settings:?}");
}

#[tokio::test]
async fn impossible_settings_are_refused_by_name() {
    type Change = fn(&mut NatsConfig);
    let changes: [(&str, Change); 8] = [
        ("servers", |c| c.servers.clear()),
        ("stream", |c| c.stream = "a.b".to_owned()),
        ("subject", |c| c.subject = "a.*".to_owned()),
        ("max_in_flight", |c| c.max_in_flight = 0),
        ("retry_for_ms", |c| c.retry_for_ms = c.duplicate_window_ms),
        ("durability", |c| c.storage = NatsStorage::Memory),
        ("monitor_url", |c| c.durability = Durability::PowerLoss),
        ("max_messages", |c| c.max_messages = Some(0)),
    ];
    for (name, change) in changes {
        let mut config = NatsConfig::default();
        change(&mut config);
        let error = Nats::open(config).await.unwrap_err();
        assert!(matches!(&error, QueueError::Setting { setting, .. } if *setting == name), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_within_the_time_limit() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = NatsConfig {
        servers: vec![format!("nats://127.0.0.1:{port}")],
        connect_timeout_ms: 400,
        ..NatsConfig::default()
    };
    let begin = Instant::now();
    let error = Nats::open(config).await.unwrap_err();
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
