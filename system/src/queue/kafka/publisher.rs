//! The sending side: librdkafka's threaded producer without a future per message.
//!
//! The caller's token travels through librdkafka as the message's opaque and comes back with the delivery
//! report, on librdkafka's delivery thread, which calls the completions sink. Nothing is allocated per
//! message on our side. In flight is bounded by a [`Window`]; at the bound `publish` waits.
//!
//! The last clone of a publisher may be dropped with messages in flight: they are still sent and reported,
//! by a thread that ends with the last of them or at the delivery time-out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Statistics};

use super::counters::Counters;
use super::native::{self, Persisted, TopicHandle};
use super::stats::ClientNotes;
use super::transaction::Transaction;
use super::window::{Closed, Window};
use super::{BACKEND, KafkaConfig, blocking};
use crate::message::Message;
use crate::queue::{
    Completions, Outcome, PublishError, QueueError, RejectReason, Submitted, Token, UnknownReason,
};

// The token is the opaque pointer.
const _: () = assert!(size_of::<usize>() >= size_of::<u64>(), "kafka needs a 64-bit target");

/// How long closing waits for the reports of messages it purged.
const PURGE: Duration = Duration::from_secs(2);

/// Receives delivery reports on librdkafka's thread.
pub(super) struct Reports {
    pub(super) notes: Arc<ClientNotes>,
    pub(super) window: Arc<Window>,
    pub(super) sink: Arc<dyn Completions>,
    pub(super) counters: Arc<Counters>,
    pub(super) transaction: Option<Arc<Transaction>>,
}

impl Reports {
    /// The one place where a message's fate is told.
    pub(super) fn complete(&self, token: Token, outcome: Outcome) {
        self.counters.outcome(outcome);
        self.sink.complete(token, outcome);
        self.window.leave();
    }
}

impl ClientContext for Reports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
        self.notes.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.notes.error(&error, reason);
    }

    fn stats(&self, report: Statistics) {
        self.notes.report(&report);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let token = Token(opaque as u64);
        let outcome = match result {
            Ok(_) => Outcome::Acknowledged,
            Err((error, message)) => outcome_of(error.rdkafka_error_code(), native::message_status(message)),
        };
        match &self.transaction {
            Some(transaction) => transaction.delivered(token, outcome),
            None => self.complete(token, outcome),
        }
    }
}

/// What a failed delivery proves. Only what librdkafka never sent, or the broker answered with a refusal,
/// is certainly not there.
fn outcome_of(code: Option<RDKafkaErrorCode>, persisted: Persisted) -> Outcome {
    use RDKafkaErrorCode as Code;
    match (code, persisted) {
        (_, Persisted::Yes) => Outcome::Acknowledged,
        (Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge), _) => {
            Outcome::Rejected(RejectReason::TooLarge)
        }
        (Some(Code::PurgeQueue), _) => Outcome::Rejected(RejectReason::NotSent),
        (
            Some(
                Code::PolicyViolation
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnsupportedCompressionType
                | Code::UnsupportedForMessageFormat
                | Code::NotEnoughReplicas,
            ),
            _,
        ) => Outcome::Rejected(RejectReason::Refused),
        (_, Persisted::No) => Outcome::Rejected(RejectReason::NotSent),
        (
            Some(
                Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::PurgeInflight,
            ),
            _,
        ) => Outcome::Unknown(UnknownReason::TimedOut),
        _ => Outcome::Unknown(UnknownReason::Disconnected),
    }
}

/// One native producer and what belongs to it.
pub(super) struct Core {
    topic: TopicHandle<Reports>,
    reports: Arc<Reports>,
    max_payload_bytes: usize,
    drain: Duration,
}

/// The producers of one queue, so that closing it can wait for them.
pub(super) type Registry = Mutex<Vec<Arc<Core>>>;

impl Core {
    /// Creates the producer and waits until its first message need not wait. Blocks.
    pub(super) fn open(
        config: &KafkaConfig,
        number: usize,
        sink: &Arc<dyn Completions>,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, QueueError> {
        let started = Instant::now();
        let limit = config.connect_timeout();
        let notes = Arc::new(ClientNotes::new(Arc::clone(counters)));
        let window = Arc::new(Window::new(config.max_in_flight));
        let transaction = config.transactions.clone().map(|settings| Arc::new(Transaction::new(settings)));
        let failed = |reason: String| QueueError::Failed { backend: BACKEND, reason };
        let unreachable = |notes: &ClientNotes| QueueError::Unreachable {
            backend: BACKEND,
            address: config.brokers.clone(),
            waited: started.elapsed(),
            reason: notes.last_words(),
        };
        let context = Reports {
            notes: Arc::clone(&notes),
            window: Arc::clone(&window),
            sink: Arc::clone(sink),
            counters: Arc::clone(counters),
            transaction: transaction.clone(),
        };
        let producer: ThreadedProducer<Reports> = config
            .producer(number)
            .create_with_context(context)
            .map_err(|error| failed(error.to_string()))?;
        if let Some(transaction) = &transaction {
            transaction
                .init(&producer, limit)
                .map_err(|reason| failed(format!("{reason}; {}", notes.last_words())))?;
        }
        // Without this the first message would wait for the partitions' leaders.
        if let Err(error) = producer.client().fetch_metadata(Some(&config.topic), limit) {
            tracing::debug!(%error, "no metadata for a new producer");
            return Err(unreachable(&notes));
        }
        // And for the producer's id, which takes half a second.
        while !notes.producer_ready() {
            if started.elapsed() >= limit {
                return Err(unreachable(&notes));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let reports = Arc::clone(producer.client().context());
        let topic = TopicHandle::new(producer, &config.topic).map_err(failed)?;
        let core = Arc::new(Self {
            topic,
            reports,
            max_payload_bytes: config.max_payload_bytes,
            drain: Duration::from_millis(config.delivery_timeout_ms.into()) + PURGE,
        });
        if let Some(transaction) = &transaction {
            transaction.start(&core).map_err(failed)?;
        }
        Ok(core)
    }

    pub(super) fn producer(&self) -> &ThreadedProducer<Reports> {
        self.topic.producer()
    }

    pub(super) fn reports(&self) -> &Arc<Reports> {
        &self.reports
    }

    pub(super) fn window(&self) -> &Window {
        &self.reports.window
    }

    /// Lets nothing more in; what is in flight goes on.
    pub(super) fn stop_intake(&self) {
        self.window().close();
        if let Some(transaction) = &self.reports.transaction {
            transaction.demand();
        }
    }

    /// Waits for what is in flight, and at the deadline gives it up; returns how many that were. Blocks.
    pub(super) fn finish(&self, until: Instant) -> usize {
        let left = self.window().wait_idle(until);
        if left > 0 {
            self.producer().purge(PurgeConfig::default().queue().inflight());
            if let Some(transaction) = &self.reports.transaction {
                transaction.give_up();
            }
            self.window().wait_idle(Instant::now() + PURGE);
        }
        if let Some(transaction) = &self.reports.transaction {
            transaction.stop();
        }
        left
    }

    fn check(&self, message: &Message) -> Result<(), PublishError> {
        if message.payload.len() > self.max_payload_bytes {
            return Err(PublishError::TooLarge {
                size: message.payload.len(),
                limit: self.max_payload_bytes,
            });
        }
        for (name, _) in &message.headers {
            let reason = if name.is_empty() {
                "a header without a name"
            } else if name.contains(&0) {
                "a header name with a NUL byte"
            } else if name.as_ref() == native::MESSAGE_ID && !message.id.is_empty() {
                "the header `message_id` is taken by the message's id"
            } else {
                continue;
            };
            return Err(PublishError::Invalid { backend: BACKEND, reason: reason.to_owned() });
        }
        Ok(())
    }

    /// Hands an admitted message to librdkafka. `Ok(false)`: full, try again after progress.
    fn hand_over(&self, message: &Message, token: Token) -> Result<bool, PublishError> {
        // `usize` is 64 bits wide, see above.
        #[expect(clippy::cast_possible_truncation, reason = "checked at compile time above")]
        let opaque = token.0 as usize;
        let result = match &self.reports.transaction {
            Some(transaction) => match transaction.within(|| self.topic.produce(message, opaque)) {
                Some(result) => result,
                None => return Ok(false),
            },
            None => self.topic.produce(message, opaque),
        };
        match result {
            Ok(()) => Ok(true),
            Err(RDKafkaErrorCode::QueueFull) => Ok(false),
            Err(RDKafkaErrorCode::MessageSizeTooLarge) => Err(PublishError::TooLarge {
                size: message.payload.len() + message.key.len(),
                limit: self.max_payload_bytes,
            }),
            Err(code) => {
                let reason = match self.producer().client().fatal_error() {
                    Some((_, text)) => text,
                    None => code.to_string(),
                };
                Err(PublishError::Client { backend: BACKEND, reason })
            }
        }
    }

    /// Hands over a message that has its place in the window, and gives the place back when it cannot.
    async fn send(&self, message: &Message, token: Token) -> Result<(), PublishError> {
        loop {
            // Counted before librdkafka has it, because its answer may be faster than we are.
            self.reports.counters.accepted();
            let handed_over = self.hand_over(message, token);
            if !matches!(handed_over, Ok(true)) {
                self.reports.counters.not_accepted();
            }
            match handed_over {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    // Our own place must not count as progress to wait for.
                    self.window().leave();
                    match &self.reports.transaction {
                        Some(transaction) if transaction.is_closed_for_now() => transaction.reopened().await,
                        _ => self.window().progress().await,
                    }
                    self.window().enter().await.map_err(|Closed| PublishError::Closed)?;
                }
                Err(error) => {
                    self.window().leave();
                    return Err(error);
                }
            }
        }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("in_flight", &self.window().in_flight()).finish_non_exhaustive()
    }
}

/// Sends to one topic; a clone shares the connection.
#[derive(Clone, Debug)]
pub struct KafkaPublisher(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    registry: Arc<Registry>,
}

impl KafkaPublisher {
    pub(super) fn new(core: Arc<Core>, registry: Arc<Registry>) -> Self {
        registry.lock().push(Arc::clone(&core));
        Self(Arc::new(Handle { core, registry }))
    }

    fn refused(&self, error: PublishError) -> PublishError {
        self.0.core.reports.counters.refused();
        error
    }

    async fn publish_one(&self, message: &Message, token: Token) -> Result<(), PublishError> {
        let core = &self.0.core;
        core.check(message)?;
        core.window().enter().await.map_err(|Closed| PublishError::Closed)?;
        core.send(message, token).await
    }
}

impl crate::queue::Publisher for KafkaPublisher {
    async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
        match self.publish_one(&message, token).await {
            Ok(()) => Ok(Submitted::Pending),
            Err(error) => Err(self.refused(error)),
        }
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut accepted = 0;
        while let Some((message, token)) = batch.front() {
            match self.publish_one(message, *token).await {
                Ok(()) => {
                    batch.pop_front();
                    accepted += 1;
                }
                Err(error) => return if accepted > 0 { Ok(accepted) } else { Err(self.refused(error)) },
            }
        }
        Ok(accepted)
    }

    async fn flush(&self, deadline: Duration) -> usize {
        let core = &self.0.core;
        if core.window().in_flight() == 0 {
            return 0;
        }
        if let Some(transaction) = &core.reports.transaction {
            transaction.demand();
        }
        let waiting = Arc::clone(core);
        let until = Instant::now() + deadline;
        let left = blocking::run("flush", move || waiting.window().wait_idle(until)).await;
        left.unwrap_or_else(|_| core.window().in_flight())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let core = Arc::clone(&self.core);
        let registry = Arc::clone(&self.registry);
        core.stop_intake();
        let drain = move || {
            core.finish(Instant::now() + core.drain);
            registry.lock().retain(|other| !Arc::ptr_eq(other, &core));
        };
        // Dropping a producer joins its thread, which is not for an async caller to wait for. Without a
        // thread the registry keeps the producer until the queue is closed.
        if let Err(error) = std::thread::Builder::new().name("kafka-drain".to_owned()).spawn(drain) {
            tracing::warn!(%error, "a producer is kept until its queue is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_stored_is_rejected() {
        use RDKafkaErrorCode as Code;
        let of = |code, persisted| outcome_of(Some(code), persisted);
        assert_eq!(of(Code::MessageTimedOut, Persisted::No), Outcome::Rejected(RejectReason::NotSent));
        assert_eq!(of(Code::MessageTimedOut, Persisted::Possibly), Outcome::Unknown(UnknownReason::TimedOut));
        assert_eq!(
            of(Code::BrokerTransportFailure, Persisted::Possibly),
            Outcome::Unknown(UnknownReason::Disconnected)
        );
        assert_eq!(of(Code::PurgeInflight, Persisted::Possibly), Outcome::Unknown(UnknownReason::TimedOut));
        assert_eq!(of(Code::PurgeQueue, Persisted::No), Outcome::Rejected(RejectReason::NotSent));
        assert_eq!(of(Code::MessageSizeTooLarge, Persisted::No), Outcome::Rejected(RejectReason::TooLarge));
        assert_eq!(
            of(Code::TopicAuthorizationFailed, Persisted::No),
            Outcome::Rejected(RejectReason::Refused)
        );
        assert_eq!(
            of(Code::NotEnoughReplicasAfterAppend, Persisted::Possibly),
            Outcome::Unknown(UnknownReason::Disconnected)
        );
        assert_eq!(of(Code::Fail, Persisted::Yes), Outcome::Acknowledged);
    }
}
