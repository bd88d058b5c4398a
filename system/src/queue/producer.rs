//! A future per published message, over any [`Publisher`].
//!
//! [`Producer::publish`] returns when the client has accepted the message, with an [`Acknowledgement`]: a
//! future that resolves to acknowledged, rejected or unknown. Outcomes travel through a table of slots that
//! is allocated once; its size is the bound on messages in flight, and publishing waits for a free slot.
//! Dropping an acknowledgement is safe: its slot is freed when the answer comes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Completions, Outcome, PublishError, Publisher, Queue, QueueError, Submitted, Token};
use crate::message::Message;

mod slots;
#[cfg(test)]
mod tests;

use slots::Slots;

/// Publishes and hands back a future for each message's fate. A clone shares the slots.
#[derive(Clone, Debug)]
pub struct Producer<P> {
    publisher: P,
    slots: Arc<Slots>,
}

impl<P: Publisher> Producer<P> {
    /// A producer on `queue` with at most `in_flight` messages without an outcome.
    ///
    /// # Errors
    /// `in_flight` is zero or over four thousand million, or the queue gives no publisher.
    pub async fn open<Q>(queue: &Q, in_flight: usize) -> Result<Self, QueueError>
    where
        Q: Queue<Publisher = P>,
    {
        let count = u32::try_from(in_flight).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| QueueError::Setting {
            backend: queue.backend(),
            setting: "in-flight",
            reason: format!("{in_flight} is not between 1 and {}", u32::MAX),
        })?;
        let slots = Arc::new(Slots::new(count));
        let publisher = queue.publisher(Arc::clone(&slots) as Arc<dyn Completions>).await?;
        Ok(Self { publisher, slots })
    }

    /// Waits for a slot and for the client to accept `message`; the returned future tells its fate.
    ///
    /// Dropping this future before it is ready abandons the message: it may or may not have been accepted.
    ///
    /// # Errors
    /// The client did not accept the message, so nothing was sent.
    pub async fn publish(&self, message: Message) -> Result<Acknowledgement, PublishError> {
        let reserved = Reserved { slots: &self.slots, token: self.slots.reserve().await };
        match self.publisher.publish(message, reserved.token).await? {
            Submitted::Acknowledged => Ok(Acknowledgement { slot: None }),
            Submitted::Pending => Ok(reserved.into_acknowledgement()),
        }
    }

    /// Hands over messages from the front of `batch`, as many as have slots and are accepted, and appends
    /// an acknowledgement for each. The others stay in `batch`, in order, also when this future is dropped.
    /// Waits for the first slot only. Allocates per call, not per message.
    ///
    /// # Errors
    /// The client did not accept the message at the front, which stays there.
    pub async fn publish_batch(
        &self,
        batch: &mut VecDeque<Message>,
        into: &mut Vec<Acknowledgement>,
    ) -> Result<usize, PublishError> {
        if batch.is_empty() {
            return Ok(0);
        }
        let mut token = Some(self.slots.reserve().await);
        let mut handed = Handed { slots: &self.slots, batch, into, messages: VecDeque::new() };
        while let Some(reserved) = token {
            let message = handed.batch.pop_front().expect("a slot is reserved only for a waiting message");
            handed.messages.push_back((message, reserved));
            handed.into.push(Acknowledgement { slot: Some((Arc::clone(&self.slots), reserved)) });
            token = if handed.batch.is_empty() { None } else { self.slots.try_reserve() };
        }
        self.publisher.publish_batch(&mut handed.messages).await
    }

    /// Waits until every message accepted so far has its outcome, at most `deadline`; returns how many
    /// have none.
    pub async fn flush(&self, deadline: Duration) -> usize {
        self.publisher.flush(deadline).await
    }

    /// Messages without an outcome, and outcomes not yet read.
    pub fn in_flight(&self) -> usize {
        self.slots.taken()
    }
}

/// A slot taken for a message that is not yet accepted; freed unless it becomes an acknowledgement.
struct Reserved<'a> {
    slots: &'a Arc<Slots>,
    token: Token,
}

impl Reserved<'_> {
    fn into_acknowledgement(self) -> Acknowledgement {
        let this = std::mem::ManuallyDrop::new(self);
        Acknowledgement { slot: Some((Arc::clone(this.slots), this.token)) }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.slots.release(self.token);
    }
}

/// A batch in the client's hands. What the client left goes back to where it came from, in order, and its
/// slots are freed, whether the call ended or was dropped.
struct Handed<'a> {
    slots: &'a Slots,
    batch: &'a mut VecDeque<Message>,
    into: &'a mut Vec<Acknowledgement>,
    messages: VecDeque<(Message, Token)>,
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        while let Some((message, token)) = self.messages.pop_back() {
            self.batch.push_front(message);
            if let Some(mut acknowledgement) = self.into.pop() {
                acknowledgement.slot = None;
            }
            self.slots.release(token);
        }
    }
}

/// Resolves to the fate of one message. Dropping it forgets the message, not the bound: the slot stays
/// taken until the answer comes.
#[derive(Debug)]
#[must_use = "the message's fate is unknown until this is awaited"]
pub struct Acknowledgement {
    /// None: acknowledged at once, or already read.
    slot: Option<(Arc<Slots>, Token)>,
}

impl Future for Acknowledgement {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some((slots, token)) = &self.slot else { return Poll::Ready(Outcome::Acknowledged) };
        let polled = slots.poll(*token, context);
        if polled.is_ready() {
            self.slot = None;
        }
        polled
    }
}

impl Drop for Acknowledgement {
    fn drop(&mut self) {
        if let Some((slots, token)) = self.slot.take() {
            slots.abandon(token);
        }
    }
}
