//! Steps that the cases share: every wait with a deadline, every failure with what was being done.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use super::{CaseResult, Factory, Failure, Verdict, Wanted};
use crate::message::Message;
use crate::queue::{
    Acknowledge, Acknowledgement, Delivery, Outcome, Producer, Publisher, Queue, QueueError,
    SubscribeOptions, Subscriber,
};

/// Messages in flight of the suite's producers.
const IN_FLIGHT: usize = 256;

/// Fails a case, in words.
macro_rules! fail {
    ($($words:tt)*) => { return Err($crate::queue::conformance::Failure::new(format!($($words)*))) };
}

/// Fails a case unless something holds.
macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => { if !$holds { $crate::queue::conformance::support::fail!($($words)*) } };
}

pub(super) use {ensure, fail};

/// Runs `body` on a fresh queue, then closes and removes the queue whatever came out.
pub(super) async fn on_queue<F: Factory>(
    factory: &F,
    wanted: Wanted,
    body: impl AsyncFnOnce(&F::Queue, Duration) -> Result<(), Failure>,
) -> CaseResult {
    let patience = factory.capabilities().patience;
    let opened = within(patience, "opening the queue", factory.open(wanted)).await?;
    let queue = opened.map_err(|error| Failure::new(format!("opening the queue: {error}")))?;
    let result = body(&queue, patience).await;
    let closed = within(patience * 2, "closing the queue", queue.close(patience)).await;
    let removed = within(patience, "removing the queue", queue.remove()).await;
    result?;
    match closed? {
        // What a case leaves behind on purpose is not at issue here; lifecycle cases look at it.
        Ok(()) | Err(QueueError::CloseDeadline { .. }) => {}
        Err(error) => fail!("closing the queue: {error}"),
    }
    removed?.map_err(|error| Failure::new(format!("removing the queue: {error}")))?;
    Ok(Verdict::Passed)
}

pub(super) fn plain(case: &'static str) -> Wanted {
    Wanted { case, capacity: None }
}

/// `future`, at most `patience` long.
pub(super) async fn within<T>(
    patience: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    let waited = tokio::time::timeout(patience, future).await;
    waited.map_err(|_| Failure::new(format!("{what}: nothing after {patience:?}")))
}

/// Puts what was being done before an error.
pub(super) fn said<T, E: Display>(what: &str, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| Failure::new(format!("{what}: {error}")))
}

pub(super) async fn producer<Q: Queue>(
    queue: &Q,
    patience: Duration,
) -> Result<Producer<Q::Publisher>, Failure> {
    said(
        "opening a producer",
        within(patience, "opening a producer", Producer::open(queue, IN_FLIGHT)).await?,
    )
}

pub(super) async fn subscriber<Q: Queue>(
    queue: &Q,
    group: &str,
    patience: Duration,
) -> Result<Q::Subscriber, Failure> {
    let options =
        SubscribeOptions { group: group.to_owned(), prefetch: 64, acknowledge: Acknowledge::Explicit };
    said("subscribing", within(patience, "subscribing", queue.subscriber(options)).await?)
}

/// Publishes without waiting for the outcome.
pub(super) async fn submit<P: Publisher>(
    producer: &Producer<P>,
    message: Message,
    patience: Duration,
) -> Result<Acknowledgement, Failure> {
    let what = format!("publishing {:?}", message.id);
    said(&what, within(patience, &what, producer.publish(message)).await?)
}

/// Waits until `acknowledgement` says acknowledged.
pub(super) async fn acknowledged(
    acknowledgement: Acknowledgement,
    what: &str,
    patience: Duration,
) -> Result<(), Failure> {
    match within(patience, &format!("the outcome of {what}"), acknowledgement).await? {
        Outcome::Acknowledged => Ok(()),
        other => fail!("{what} should be acknowledged, but is {other:?}"),
    }
}

/// Publishes all of `messages`, in order, and waits until each is acknowledged.
pub(super) async fn publish_all<P: Publisher>(
    producer: &Producer<P>,
    messages: impl IntoIterator<Item = Message>,
    patience: Duration,
) -> Result<(), Failure> {
    let mut pending = std::collections::VecDeque::new();
    for message in messages {
        let id = message.id.clone();
        // The producer waits for free slots; outcomes must be read to free them.
        if pending.len() == IN_FLIGHT {
            let (id, oldest): (crate::message::MessageId, Acknowledgement) =
                pending.pop_front().expect("as many as there are slots");
            acknowledged(oldest, id.as_str(), patience).await?;
        }
        pending.push_back((id, submit(producer, message, patience).await?));
    }
    for (id, acknowledgement) in pending {
        acknowledged(acknowledgement, id.as_str(), patience).await?;
    }
    Ok(())
}

pub(super) async fn receive<S: Subscriber>(
    subscriber: &mut S,
    what: &str,
    patience: Duration,
) -> Result<S::Delivery, Failure> {
    said(what, within(patience, what, subscriber.recv()).await?)
}

pub(super) async fn ack<D: Delivery>(delivery: D, patience: Duration) -> Result<(), Failure> {
    said("acknowledging", within(patience, "acknowledging", delivery.ack()).await?)
}

/// Receives and acknowledges until each of `ids` has come at least once; returns how often each id came,
/// strangers included.
pub(super) async fn receive_until_all<S: Subscriber>(
    subscriber: &mut S,
    ids: impl IntoIterator<Item = String>,
    patience: Duration,
) -> Result<BTreeMap<String, u32>, Failure> {
    let mut missing: std::collections::BTreeSet<String> = ids.into_iter().collect();
    let mut seen = BTreeMap::new();
    while let Some(next) = missing.first() {
        let what = format!("receiving ({} of the expected are missing, first {next:?})", missing.len());
        let delivery = receive(subscriber, &what, patience).await?;
        let id = delivery.message().id.to_string();
        missing.remove(&id);
        *seen.entry(id).or_insert(0) += 1;
        ack(delivery, patience).await?;
    }
    Ok(seen)
}

/// Asks again, every 20 ms, until `holds` says so of the answer.
pub(super) async fn eventually<T: std::fmt::Debug>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, Failure>,
    holds: impl Fn(&T) -> bool,
) -> Result<T, Failure> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        let answer = within(patience, what, ask()).await??;
        if holds(&answer) {
            return Ok(answer);
        }
        ensure!(tokio::time::Instant::now() < end, "{what}: still {answer:?} after {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A message named `prefix-number`, under its name as the key.
pub(super) fn numbered(prefix: &str, number: usize) -> Message {
    let id = id(prefix, number);
    Message::new(id.clone()).with_key(id.clone()).with_id(id)
}

pub(super) fn id(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:04}")
}

pub(super) fn ids(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| id(prefix, number))
}
