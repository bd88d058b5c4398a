//! Round trips of a real client, and the way round what cannot be started.

use std::time::Duration;

use async_nats::jetstream;
use queuebench_testcontainers::{Backend, Running, StartError, StartOptions, Via, require, start};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

pub(crate) const STOP: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(20);

/// The server, or none if its way is not open here.
pub(crate) async fn open(backend: Backend, options: StartOptions) -> Option<Running> {
    let via = options.via;
    match start(backend, options).await {
        Ok(running) => Some(running),
        Err(
            error @ (StartError::NoWay { .. }
            | StartError::MissingToolchain { .. }
            | StartError::Engine { .. }
            | StartError::Image { .. }),
        ) => {
            require::skip(&[backend.name(), &via.to_string()], &error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn options(via: Via) -> StartOptions {
    // A busy machine starts several servers at once.
    StartOptions { via, time_limit: Duration::from_secs(240), ..StartOptions::default() }
}

pub(crate) async fn nats(address: &str) -> jetstream::Context {
    let client = async_nats::connect(address).await.unwrap();
    jetstream::new(client)
}

/// Publishes one message to a file stream and waits for the acknowledgement.
pub(crate) async fn nats_write(address: &str, payload: &str) {
    let context = nats(address).await;
    context
        .get_or_create_stream(jetstream::stream::Config {
            name: "kept".to_owned(),
            subjects: vec!["kept.>".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap();
    let ack = tokio::time::timeout(
        ANSWER,
        context.publish("kept.a", payload.to_owned().into_bytes().into()).await.unwrap(),
    );
    ack.await.unwrap().unwrap();
}

/// Everything in that stream.
pub(crate) async fn nats_read(address: &str) -> Vec<String> {
    let context = nats(address).await;
    let stream = context.get_stream("kept").await.unwrap();
    let count = stream.cached_info().state.messages;
    let mut payloads = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.unwrap();
        payloads.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    payloads
}

fn kafka(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("reconnect.backoff.max.ms", "200");
    config
}

/// Creates topic `kept` if it is not there, writes one record and waits for the acknowledgement.
pub(crate) async fn kafka_write(address: &str, payload: &str) {
    let admin: AdminClient<DefaultClientContext> = kafka(address).create().unwrap();
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    let created =
        admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(ANSWER))).await.unwrap();
    match &created[0] {
        Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
        Err((_, error)) => panic!("{error}"),
    }
    let producer: FutureProducer =
        kafka(address).set("acks", "all").set("message.max.bytes", "2000000").create().unwrap();
    producer.send(FutureRecord::to("kept").key("k").payload(payload), ANSWER).await.unwrap();
}

/// Everything in that topic.
pub(crate) async fn kafka_read(address: &str) -> Vec<String> {
    let config = kafka(address);
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.clone().set("group.id", "reader").create().unwrap();
        let (low, high) = consumer.fetch_watermarks("kept", 0, ANSWER).unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("kept", 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut payloads = Vec::new();
        for _ in low..high {
            let message = consumer.poll(ANSWER).expect("a record").unwrap();
            payloads.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
        payloads
    })
    .await
    .unwrap()
}

pub(crate) async fn write(running: &Running, payload: &str) {
    match running.backend() {
        Backend::Kafka => kafka_write(running.address(), payload).await,
        _ => nats_write(running.address(), payload).await,
    }
}

pub(crate) async fn read(running: &Running) -> Vec<String> {
    match running.backend() {
        Backend::Kafka => kafka_read(running.address()).await,
        _ => nats_read(running.address()).await,
    }
}

/// Whether anything accepts connections there.
pub(crate) fn is_listening(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

/// Whether this process exists and is not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    procfs::process::Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z')
}

/// One server through its whole life: written to, killed, started again with its data, frozen, stopped.
pub(crate) async fn survives_its_faults(running: &Running) {
    write(running, "first").await;
    let before = running.pids();
    assert!(!before.is_empty() && before.iter().all(|&pid| is_alive(pid)), "{before:?}");

    running.kill().await.unwrap();
    assert!(!is_listening(running.address()), "a killed server still listens");
    assert!(running.pids().is_empty());
    running.kill().await.unwrap_err();
    running.restart().await.unwrap();
    assert_ne!(running.pids(), before);
    assert_eq!(read(running).await, ["first"]);

    running.pause().await.unwrap();
    let frozen = tokio::time::timeout(Duration::from_millis(300), write(running, "while frozen")).await;
    assert!(frozen.is_err(), "a frozen server acknowledged");
    running.resume().await.unwrap();
    write(running, "second").await;

    running.restart().await.unwrap();
    let kept = read(running).await;
    assert_eq!(kept[0], "first");
    assert!(kept.contains(&"second".to_owned()), "{kept:?}");
    assert!(running.log_path().unwrap().metadata().unwrap().len() > 0);

    let pids = running.pids();
    running.stop(STOP).await.unwrap();
    assert!(!is_listening(running.address()));
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
    running.stop(STOP).await.unwrap();
    running.restart().await.unwrap_err();
}

/// The program of a native nats-server here, got the usual way; none if that way is closed.
pub(crate) async fn nats_program() -> Option<std::path::PathBuf> {
    let nats = open(Backend::Nats, options(Via::Native)).await?;
    let program = nats.facts().command[0].clone().into();
    nats.stop(STOP).await.unwrap();
    Some(program)
}

/// An executable shell script.
pub(crate) fn script(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o755).open(path);
    std::io::Write::write_all(&mut file.unwrap(), format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
}

/// Waits until `condition` holds, at most ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Set in a process that [`again`] started.
const ROLE: &str = "QUEUEBENCH_TEST_ROLE";

/// Whether this process is the one that [`again`] started for `test`.
pub(crate) fn is_again(test: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == test)
}

/// Runs one test of this program once more in a process of its own, which finds [`is_again`] true: for what
/// needs another environment, or has to die.
pub(crate) fn again(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROLE, test).env_remove("QUEUEBENCH_REQUIRE");
    command
}

/// Runs [`again`] to its end, which must be good.
pub(crate) fn passes_again(test: &str, adjust: impl FnOnce(&mut std::process::Command)) {
    let mut command = again(test);
    adjust(&mut command);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
