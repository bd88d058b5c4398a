//! One broker for all, and short ways to publish and receive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use queuebench_system::message::Message;
use queuebench_system::queue::kafka::{Kafka, KafkaConfig, KafkaDelivery, KafkaSubscriber};
use queuebench_system::queue::{
    Acknowledge, Completions, Delivery, Outcome, Publisher, Queue, SubscribeOptions, Subscriber, Token,
};
use queuebench_testcontainers::{Backend, Running, StartOptions, Via, require, start};

/// No single step takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The address of the broker that the tests share; `None` (and a printed line) when none can be started.
pub(crate) fn shared_broker() -> Option<&'static str> {
    static BROKER: OnceLock<Result<String, String>> = OnceLock::new();
    let started = BROKER.get_or_init(|| {
        let (tell, told) = mpsc::channel();
        // A native broker dies with the thread that started it, so that thread stays until the end.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime starts").block_on(async move {
                match start(Backend::Kafka, StartOptions::from_env(Backend::Kafka)).await {
                    Ok(running) => {
                        tell.send(Ok(running.address().to_owned())).unwrap();
                        std::future::pending::<()>().await;
                    }
                    Err(error) => tell.send(Err(error.to_string())).unwrap(),
                }
            });
        });
        told.recv().unwrap()
    });
    match started {
        Ok(address) => Some(address),
        Err(reason) => {
            require::skip(&["kafka"], reason);
            None
        }
    }
}

/// A broker of one's own, to be broken: a process of this machine where possible, as that is the quickest to
/// come back.
pub(crate) async fn own_broker() -> Option<Running> {
    let options = StartOptions {
        external: None,
        time_limit: Duration::from_secs(240),
        ..StartOptions::from_env(Backend::Kafka)
    };
    if let Ok(running) = start(Backend::Kafka, StartOptions { via: Via::Native, ..options.clone() }).await {
        return Some(running);
    }
    match start(Backend::Kafka, options).await {
        Ok(running) => Some(running),
        Err(error) => {
            require::skip(&["kafka"], &error);
            None
        }
    }
}

/// Settings for a topic that no other test has.
pub(crate) fn fresh(brokers: &str, name: &str) -> KafkaConfig {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, SeqCst);
    KafkaConfig::new(brokers, format!("{name}-{}-{number}", std::process::id()))
}

pub(crate) async fn open(config: KafkaConfig) -> Kafka {
    Kafka::open(config).await.unwrap()
}

/// A group that no other topic's test is in.
pub(crate) fn options(config: &KafkaConfig) -> SubscribeOptions {
    options_as("g", config)
}

pub(crate) fn options_as(name: &str, config: &KafkaConfig) -> SubscribeOptions {
    let group = format!("{}-{name}", config.topic);
    SubscribeOptions { group, prefetch: 100, acknowledge: Acknowledge::Explicit }
}

/// Keeps every outcome, and checks that each token has exactly one.
#[derive(Default)]
pub(crate) struct Outcomes(Mutex<HashMap<u64, Outcome>>);

impl Completions for Outcomes {
    fn complete(&self, token: Token, outcome: Outcome) {
        let twice = self.0.lock().unwrap().insert(token.0, outcome);
        assert_eq!(twice, None, "token {} completed twice", token.0);
    }
}

impl Outcomes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn of(&self, token: u64) -> Option<Outcome> {
        self.0.lock().unwrap().get(&token).copied()
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.0.lock().unwrap().values().filter(|other| **other == outcome).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A message named and keyed by its number.
pub(crate) fn numbered(number: usize) -> Message {
    Message::new(format!("payload-{number}"))
        .with_id(format!("id-{number}"))
        .with_key(format!("key-{}", number % 16))
}

/// Publishes `numbers` and waits until each is acknowledged.
pub(crate) async fn publish_all(queue: &Kafka, numbers: std::ops::Range<usize>) {
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    for number in numbers.clone() {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    assert_eq!(outcomes.count(Outcome::Acknowledged), numbers.len());
}

pub(crate) async fn receive(subscriber: &mut KafkaSubscriber) -> KafkaDelivery {
    tokio::time::timeout(PATIENCE, subscriber.recv()).await.expect("nothing came").unwrap()
}

/// The number of a message made by [`numbered`], after checking that it is whole.
pub(crate) fn number_of(delivery: &KafkaDelivery) -> usize {
    let message = delivery.message();
    let number = message.id.as_str().strip_prefix("id-").unwrap().parse().unwrap();
    assert_eq!(*message, numbered(number));
    number
}

/// Whether nothing comes for a while. Only for what must not come: the time is no synchronisation.
pub(crate) async fn stays_silent(subscriber: &mut KafkaSubscriber) -> bool {
    tokio::time::timeout(Duration::from_millis(700), subscriber.recv()).await.is_err()
}

/// Asks until `holds`.
pub(crate) async fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if holds(&answer) {
            return;
        }
        assert!(Instant::now() < until, "{what}: still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
