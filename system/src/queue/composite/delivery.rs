//! One logical message in a consumer's hands, with the copies that other children delivered meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::counters::Counters;
use super::merge::Merge;
use crate::message::{Message, MessageId};
use crate::queue::{AckError, Delivery};

/// What an answer changes beside the children.
#[derive(Debug)]
pub(super) struct Answering<D> {
    pub(super) merge: Arc<Merge<D>>,
    /// The subscriber's prefetch.
    pub(super) permits: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    /// The children count a message as processed when they hand it out.
    pub(super) on_receive: bool,
}

/// A message of a [`Composite`](super::Composite). Acknowledging it acknowledges every copy that has come;
/// giving it back gives every copy back, and the first to come again is delivered.
pub struct CompositeDelivery<D: Delivery> {
    /// None once answered.
    delivery: Option<D>,
    id: MessageId,
    attempt: u32,
    handed_out: bool,
    answering: Answering<D>,
}

impl<D: Delivery> fmt::Debug for CompositeDelivery<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositeDelivery")
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Why the message is there.
const UNANSWERED: &str = "only an answer, which takes the delivery, empties it";

impl<D: Delivery> CompositeDelivery<D> {
    pub(super) fn new(delivery: D, attempt: u32, answering: Answering<D>) -> Self {
        let id = delivery.message().id.clone();
        Self { delivery: Some(delivery), id, attempt, handed_out: false, answering }
    }

    pub(super) fn handed_out(&mut self) {
        self.handed_out = true;
        if self.answering.on_receive {
            self.answering.counters.acked.add();
            self.answering.permits.add_permits(1);
            // The children hold nothing; what is remembered is that copies are to be dropped.
            drop(self.settled());
        }
    }

    fn settled(&self) -> Vec<D> {
        if self.id.is_empty() { Vec::new() } else { self.answering.merge.settle(&self.id) }
    }

    /// Takes the message back from the consumer. Returns what the children are to be told about.
    fn take_back(&mut self) -> (Option<D>, Vec<D>) {
        let Some(delivery) = self.delivery.take() else { return (None, Vec::new()) };
        let answering = &self.answering;
        if answering.on_receive && self.handed_out {
            return (Some(delivery), Vec::new());
        }
        let copies = if self.id.is_empty() {
            Vec::new()
        } else {
            answering.merge.give_back(&self.id, self.handed_out)
        };
        if self.handed_out {
            answering.counters.nacked.add();
        }
        answering.permits.add_permits(1);
        (Some(delivery), copies)
    }
}

impl<D: Delivery> Drop for CompositeDelivery<D> {
    fn drop(&mut self) {
        // Dropping the children's deliveries gives them back.
        drop(self.take_back());
    }
}

impl<D: Delivery> Delivery for CompositeDelivery<D> {
    fn message(&self) -> &Message {
        self.delivery.as_ref().expect(UNANSWERED).message()
    }

    fn take_message(&mut self) -> Message {
        self.delivery.as_mut().expect(UNANSWERED).take_message()
    }

    fn attempt(&self) -> Option<u32> {
        Some(self.attempt)
    }

    fn redelivered(&self) -> bool {
        self.attempt > 1 || self.delivery.as_ref().is_some_and(Delivery::redelivered)
    }

    /// Fails only if no child took the answer: a child that did not will deliver its copy again, which is
    /// then recognised and dropped.
    async fn ack(mut self) -> Result<(), AckError> {
        let delivery = self.delivery.take().expect(UNANSWERED);
        if self.answering.on_receive {
            return Ok(());
        }
        let copies = self.settled();
        self.answering.counters.acked.add();
        self.answering.permits.add_permits(1);
        let mut result = delivery.ack().await;
        for copy in copies {
            let copied = copy.ack().await;
            if result.is_err() {
                result = copied;
            }
        }
        result
    }

    /// Fails if a child did not take the answer; that child delivers again when its own time comes.
    async fn nack(mut self, delay: Duration) -> Result<(), AckError> {
        let (delivery, copies) = self.take_back();
        let mut result = Ok(());
        for copy in delivery.into_iter().chain(copies) {
            result = result.and(copy.nack(delay).await);
        }
        result
    }
}
