use std::collections::VecDeque;
use std::sync::atomic::AtomicU8;

use futures_util::{FutureExt, poll};

use super::*;
use crate::message::Message;
use crate::queue::memory::{MemoryPublisher, MemorySubscriber};
use crate::queue::{
    Acknowledge, Delivery, Memory, MemoryConfig, Outcome, Producer, PublishError, Publisher, QueueConfig,
    Submitted, SubscribeError, UnknownReason,
};

const UP: u8 = 0;
/// Publishing and subscribing fail.
const FAILING: u8 = 1;
/// Messages are taken, and nothing is heard of them.
const SILENT: u8 = 2;
/// Subscribing fails.
const DEAF: u8 = 3;

/// A real queue behind a connection that a test can break.
#[derive(Clone, Debug)]
struct Child {
    queue: Memory<Message>,
    mode: Arc<AtomicU8>,
}

#[derive(Clone)]
struct ChildPublisher {
    inner: MemoryPublisher<Message>,
    mode: Arc<AtomicU8>,
}

impl Child {
    fn new(capacity: usize) -> Self {
        let queue = Memory::open(MemoryConfig { capacity, ..MemoryConfig::default() }).unwrap();
        Self { queue, mode: Arc::default() }
    }

    fn is(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

impl Publisher for ChildPublisher {
    async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
        match self.mode.load(Ordering::SeqCst) {
            FAILING => Err(PublishError::Client { backend: "child", reason: "broken".to_owned() }),
            SILENT => Ok(Submitted::Pending),
            _ => self.inner.publish(message, token).await,
        }
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        self.inner.publish_batch(batch).await
    }

    async fn flush(&self, deadline: Duration) -> usize {
        self.inner.flush(deadline).await
    }
}

impl Queue for Child {
    type Publisher = ChildPublisher;
    type Subscriber = MemorySubscriber<Message>;

    fn backend(&self) -> &'static str {
        self.queue.backend()
    }

    fn promise(&self) -> Promise {
        self.queue.promise()
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<ChildPublisher, QueueError> {
        Ok(ChildPublisher { inner: self.queue.publisher(completions).await?, mode: Arc::clone(&self.mode) })
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<Self::Subscriber, QueueError> {
        if self.mode.load(Ordering::SeqCst) == UP {
            return self.queue.subscriber(options).await;
        }
        Err(QueueError::Failed { backend: "child", reason: "broken".to_owned() })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.queue.depth().await
    }

    fn statistics(&self) -> Statistics {
        self.queue.statistics()
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        self.queue.effective_settings().await
    }

    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        self.queue.close(deadline).await
    }

    async fn remove(&self) -> Result<(), QueueError> {
        self.queue.remove().await
    }
}

async fn composite(strategy: Strategy, children: &[Child]) -> Composite<Child> {
    let config = CompositeConfig {
        strategy,
        answer_timeout_ms: 2_000,
        retry_after_ms: 1_000,
        window: 4,
        ..CompositeConfig::new(children.to_vec())
    };
    Composite::open(config, async |child: Child| Ok(child)).await.unwrap()
}

fn options() -> SubscribeOptions {
    SubscribeOptions { group: "g".to_owned(), prefetch: 16, acknowledge: Acknowledge::Explicit }
}

fn message(id: &str) -> Message {
    Message::new(id.to_owned()).with_id(id)
}

async fn outcome(producer: &Producer<CompositePublisher<Child>>, id: &str) -> Outcome {
    producer.publish(message(id)).await.unwrap().await
}

#[derive(Default)]
struct Told(Mutex<Vec<Partial>>);

impl Partials for Told {
    fn partial(&self, partial: &Partial) {
        self.0.lock().push(partial.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn fail_fast_tells_who_has_the_message_and_a_retry_under_the_same_id_is_one_message() {
    let children = [Child::new(10), Child::new(1)];
    let queue = composite(Strategy::FailFast, &children).await;
    let told = Arc::new(Told::default());
    assert!(queue.report_partials(Arc::clone(&told) as Arc<dyn Partials>));
    let producer = Producer::open(&queue, 8).await.unwrap();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    assert_eq!(outcome(&producer, "b").await, Outcome::Unknown(UnknownReason::Partial));
    {
        let told = told.0.lock();
        let [partial] = &told[..] else { panic!("told {told:?}") };
        assert_eq!(partial.id.as_str(), "b");
        assert!(partial.answers.acknowledged.contains(0) && partial.answers.rejected.contains(1));
    }
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    let a = subscriber.recv().await.unwrap();
    assert_eq!(a.message().id.as_str(), "a");
    a.ack().await.unwrap();
    while children[1].queue.depth().await.unwrap().total() != Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(outcome(&producer, "b").await, Outcome::Acknowledged);
    let b = subscriber.recv().await.unwrap();
    assert_eq!((b.message().id.as_str(), b.attempt()), ("b", Some(1)));
    b.ack().await.unwrap();
    queue.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(subscriber.recv().await.unwrap_err(), SubscribeError::Closed);
    let counted = queue.statistics();
    assert_eq!((counted.accepted, counted.acknowledged, counted.unknown), (3, 2, 1));
    assert_eq!((counted.delivered, counted.acked), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn fail_fast_refuses_before_any_child_has_the_message_while_one_is_down() {
    let children = [Child::new(10), Child::new(10)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    children[1].is(FAILING);
    assert_eq!(outcome(&producer, "a").await, Outcome::Unknown(UnknownReason::Partial));
    let refused = producer.publish(message("b")).await.unwrap_err();
    assert!(refused.to_string().contains("memory-2"), "{refused}");
    assert_eq!(children[0].queue.statistics().accepted, 1);
    children[1].is(UP);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(outcome(&producer, "b").await, Outcome::Acknowledged);
    assert_eq!(outcome(&producer, "c").await, Outcome::Acknowledged);
}

#[tokio::test(start_paused = true)]
async fn best_effort_goes_on_without_a_child_and_takes_it_back() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::BestEffort, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    children[1].is(SILENT);
    let start = Instant::now();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(3), "{waited:?}");
    let start = Instant::now();
    for id in ["b", "c", "d"] {
        assert_eq!(outcome(&producer, id).await, Outcome::Acknowledged);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "a child that is down is not waited for");
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(outcome(&producer, "probe").await, Outcome::Acknowledged);
    assert_eq!(start.elapsed(), Duration::from_millis(1_500), "nor is a probe");
    children[1].is(UP);
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(outcome(&producer, "back").await, Outcome::Acknowledged);
    assert_eq!(outcome(&producer, "both").await, Outcome::Acknowledged);
    assert_eq!(children[1].queue.statistics().accepted, 2);
    assert_eq!(children[0].queue.statistics().accepted, 7);
}

#[tokio::test(start_paused = true)]
async fn best_effort_is_no_success_when_no_child_has_the_message() {
    let children = [Child::new(1), Child::new(1)];
    let queue = composite(Strategy::BestEffort, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    assert_eq!(producer.publish(message("b")).await.unwrap_err(), PublishError::Full);
    children.iter().for_each(|child| child.is(FAILING));
    assert!(matches!(producer.publish(message("c")).await, Err(PublishError::Client { .. })));
    assert!(matches!(producer.publish(message("d")).await, Err(PublishError::Client { .. })));
    let counted = queue.statistics();
    assert_eq!((counted.accepted, counted.refused), (1, 3));
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn quorum_does_not_wait_for_the_last_child() {
    let children = [Child::new(10), Child::new(10), Child::new(10)];
    let queue = composite(Strategy::Quorum, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    children[2].is(SILENT);
    let start = Instant::now();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    assert_eq!(start.elapsed(), Duration::ZERO);
    children[1].is(SILENT);
    assert_eq!(outcome(&producer, "b").await, Outcome::Unknown(UnknownReason::Partial));
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn every_message_is_delivered_once_and_acknowledged_everywhere() {
    let children = [Child::new(100), Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    for number in 0..50 {
        // Every other message has no id of its own.
        let id = if number % 2 == 0 { format!("{number}") } else { String::new() };
        let sent = producer.publish(Message::new(format!("{number}")).with_id(id)).await.unwrap();
        assert_eq!(sent.await, Outcome::Acknowledged);
        let delivery = subscriber.recv().await.unwrap();
        assert_eq!(delivery.message().payload, format!("{number}"));
        assert!(!delivery.message().id.is_empty());
        delivery.ack().await.unwrap();
    }
    queue.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(subscriber.recv().await.unwrap_err(), SubscribeError::Closed);
    let counted = queue.statistics();
    assert_eq!((counted.accepted, counted.delivered, counted.acked, counted.nacked), (50, 50, 50, 0));
    assert_eq!(counted.deduplicated, 100);
    for (name, child) in &counted.children {
        assert_eq!((child.accepted, child.acked, child.nacked), (50, 50, 0), "{name}");
    }
    assert_eq!(queue.children().collect::<Vec<_>>(), ["memory", "memory-2", "memory-3"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_or_dropped_is_delivered_once_more() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    for attempt in 1..=4 {
        let delivery = subscriber.recv().await.unwrap();
        assert_eq!(delivery.attempt(), Some(attempt));
        match attempt {
            1 => delivery.nack(Duration::ZERO).await.unwrap(),
            2 => drop(delivery),
            3 => {
                // The consumer dies with the message in hand, and another takes its place.
                subscriber = queue.subscriber(options()).await.unwrap();
                drop(delivery);
            }
            _ => delivery.ack().await.unwrap(),
        }
    }
    queue.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(subscriber.recv().await.unwrap_err(), SubscribeError::Closed);
    let counted = queue.statistics();
    assert_eq!((counted.delivered, counted.redelivered, counted.nacked, counted.acked), (4, 3, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_not_delivered_early_from_another_child() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged);
    let delivery = subscriber.recv().await.unwrap();
    // Both copies are here: the second waits for the answer to the first.
    while queue.statistics().deduplicated == 0 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    delivery.nack(Duration::from_secs(3)).await.unwrap();
    let again = subscriber.recv().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    again.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_lags_behind_the_window_is_delivered_again_and_one_within_it_is_not() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 16).await.unwrap();
    // The second child cannot be received from at first, so its copies lag.
    children[1].is(DEAF);
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    for number in 0..6 {
        assert_eq!(outcome(&producer, &format!("{number}")).await, Outcome::Acknowledged);
        subscriber.recv().await.unwrap().ack().await.unwrap();
    }
    children[1].is(UP);
    // The window holds 4 of the 6: the copies of 0 and 1 are taken for new.
    for expected in ["0", "1"] {
        let delivery =
            tokio::time::timeout(Duration::from_secs(60), subscriber.recv()).await.unwrap().unwrap();
        assert_eq!(delivery.message().id.as_str(), expected);
        delivery.ack().await.unwrap();
    }
    queue.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(subscriber.recv().await.unwrap_err(), SubscribeError::Closed);
    let counted = queue.statistics();
    assert_eq!((counted.delivered, counted.deduplicated), (8, 4));
    assert_eq!(counted.children[1].1.acked, 6, "late copies are acknowledged at their child");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_received_from_joins_later() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::BestEffort, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    children[1].is(FAILING);
    let mut subscriber = queue.subscriber(options()).await.unwrap();
    children[1].is(UP);
    children[0].is(FAILING);
    assert_eq!(outcome(&producer, "a").await, Outcome::Acknowledged, "only the second child has it");
    let delivery = subscriber.recv().await.unwrap();
    assert_eq!(delivery.message().id.as_str(), "a");
    delivery.ack().await.unwrap();
    children.iter().for_each(|child| child.is(FAILING));
    assert!(queue.subscriber(options()).await.is_err(), "all children failed");
}

#[tokio::test(start_paused = true)]
async fn prefetch_bounds_what_a_subscriber_holds() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    let mut subscriber = queue.subscriber(SubscribeOptions { prefetch: 1, ..options() }).await.unwrap();
    for id in ["a", "b"] {
        assert_eq!(outcome(&producer, id).await, Outcome::Acknowledged);
    }
    let first = subscriber.recv().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), subscriber.recv()).await.is_err());
    first.ack().await.unwrap();
    assert_eq!(subscriber.recv().await.unwrap().message().id.as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn messages_in_flight_are_bounded_and_a_dropped_publish_frees_its_place() {
    let children = [Child::new(100), Child::new(100)];
    let config = CompositeConfig { max_in_flight: 1, ..CompositeConfig::new(children.to_vec()) };
    let queue = Composite::open(config, async |child: Child| Ok(child)).await.unwrap();
    let publisher = queue.publisher(Arc::new(Nobody)).await.unwrap();
    children.iter().for_each(|child| child.is(SILENT));
    assert_eq!(publisher.publish(message("a"), Token(1)).await, Ok(Submitted::Pending));
    let mut second = Box::pin(publisher.publish(message("b"), Token(2)));
    assert!(poll!(second.as_mut()).is_pending());
    drop(second);
    assert_eq!(publisher.flush(Duration::from_millis(10)).await, 1);
    // After the answer timeout the first is given up, and there is room again.
    children.iter().for_each(|child| child.is(UP));
    assert_eq!(publisher.flush(Duration::from_secs(60)).await, 0);
    let third = tokio::time::timeout(Duration::from_secs(60), async {
        // Both children are down for a moment after their silence.
        while publisher.publish(message("c"), Token(3)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    third.await.unwrap();
}

struct Nobody;

impl Completions for Nobody {
    fn complete(&self, _: Token, _: Outcome) {}
}

#[tokio::test(start_paused = true)]
async fn close_gives_every_message_an_outcome_though_a_child_is_silent() {
    let children = [Child::new(100), Child::new(100)];
    let queue = composite(Strategy::FailFast, &children).await;
    let producer = Producer::open(&queue, 8).await.unwrap();
    children[1].is(SILENT);
    let pending = producer.publish(message("a")).await.unwrap();
    let closed = queue.close(Duration::from_millis(500)).await;
    assert_eq!(pending.now_or_never(), Some(Outcome::Unknown(UnknownReason::Partial)));
    assert!(matches!(closed, Err(QueueError::CloseDeadline { outstanding: 1, .. })), "{closed:?}");
    assert_eq!(queue.close(Duration::from_millis(500)).await, Ok(()));
    assert!(children.iter().all(|child| child.queue.sender().is_err()), "both children are closed");
    assert_eq!(producer.publish(message("b")).await.unwrap_err(), PublishError::Closed);
}

#[tokio::test]
async fn settings_are_checked_before_a_child_is_opened_and_a_failure_closes_those_before() {
    let opened = Mutex::new(Vec::new());
    let open = async |works: bool| {
        if !works {
            return Err(QueueError::Failed { backend: "child", reason: "broken".to_owned() });
        }
        let child = Child::new(1);
        opened.lock().push(child.clone());
        Ok(child)
    };
    let one = CompositeConfig::new(vec![true]);
    let refused = Composite::open(one, open).await.unwrap_err();
    assert!(matches!(refused, QueueError::Setting { setting: "children", .. }), "{refused}");
    let no_window = CompositeConfig { window: 0, ..CompositeConfig::new(vec![true, true]) };
    assert!(Composite::open(no_window, open).await.is_err());
    assert!(opened.lock().is_empty());
    assert!(Composite::open(CompositeConfig::new(vec![true, true, false, true]), open).await.is_err());
    let opened = opened.lock();
    assert_eq!(opened.len(), 2);
    assert!(opened.iter().all(|child| child.queue.sender().is_err()), "both were closed");
}

#[tokio::test]
async fn a_composite_in_a_composite_is_refused_in_words() {
    let memory = || QueueConfig::Memory(MemoryConfig::default());
    let inner = QueueConfig::Composite(CompositeConfig::new(vec![memory(), memory()]));
    let outer = QueueConfig::Composite(CompositeConfig::new(vec![memory(), inner]));
    let refused = outer.open().await.unwrap_err().to_string();
    assert!(refused.contains("children") && refused.contains("cannot be the child"), "{refused}");
}

#[test]
fn settings_are_read_from_text_and_unknown_keys_refused() {
    let read = |text: &str| serde_json::from_str::<QueueConfig>(text);
    let text = r#"{"composite": {"strategy": "best-effort", "children": [{"memory": {"capacity": 7, "full": "wait"}}, {"memory": {}}]}}"#;
    let QueueConfig::Composite(config) = read(text).unwrap() else { panic!("not a composite") };
    assert_eq!((config.strategy, config.window, config.children.len()), (Strategy::BestEffort, 65_536, 2));
    assert!(read(r#"{"memory": {"size": 7}}"#).unwrap_err().to_string().contains("size"));
    assert!(read(r#"{"composite": {"children": [], "strategie": "quorum"}}"#).is_err());
    assert_eq!(" quorum ".parse(), Ok(Strategy::Quorum));
    assert!("most".parse::<Strategy>().unwrap_err().contains("fail-fast"));
}
