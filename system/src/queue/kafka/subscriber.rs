//! The receiving side: a member of a consumer group with offsets stored after processing.
//!
//! Delivery is at least once: an offset is committed only when everything before it in its partition was
//! acknowledged. A delivery that is given back, or dropped, is delivered again by this subscriber, after
//! the messages already waiting; after a rebalance or a restart it is the group that delivers it again.
//! With [`Acknowledge::OnReceive`](crate::queue::Acknowledge::OnReceive) positions are committed before
//! messages are handed out: at most once, at the price of a round trip per batch.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use super::BACKEND;
use super::membership::{Membership, Phase, Record};
use super::tracker::{Revoked, Ticket};
use crate::message::Message;
use crate::queue::{AckError, SubscribeError};

/// One member of a consumer group. Dropping it leaves the group.
#[derive(Debug)]
pub struct KafkaSubscriber {
    shared: Arc<Membership>,
    local: VecDeque<Record>,
    revocations: u64,
}

impl KafkaSubscriber {
    pub(super) fn new(shared: Arc<Membership>) -> Self {
        Self { shared, local: VecDeque::new(), revocations: 0 }
    }

    /// The next record that is still ours, without waiting.
    fn next_local(&mut self) -> Option<Record> {
        if self.shared.phase() != Phase::Running {
            self.local.clear();
        }
        let revocations = self.shared.revocations.load(SeqCst);
        if revocations != self.revocations {
            self.revocations = revocations;
            let tracker = self.shared.tracker.lock();
            self.local.retain(|record| tracker.is_current(record.ticket));
        }
        self.local.pop_front()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Record, SubscribeError>> {
        let mut registered = false;
        loop {
            if let Some(record) = self.next_local() {
                return Poll::Ready(Ok(record));
            }
            self.shared.take_ready(&mut self.local)?;
            if !self.local.is_empty() {
                // What was taken may be of a partition that was revoked before we looked.
                self.revocations = self.revocations.wrapping_sub(1);
                continue;
            }
            if registered {
                return Poll::Pending;
            }
            // Registered first, then looked once more, so that no hand-over falls between.
            self.shared.waker.register(context.waker());
            registered = true;
        }
    }

    fn deliver(&self, record: Record) -> KafkaDelivery {
        let Record { message, ticket, attempts } = record;
        if attempts > 0 {
            self.shared.counters.redelivered();
        }
        let mut open = Some(ticket);
        if self.shared.on_receive {
            settle(&self.shared, ticket);
            self.shared.counters.acked();
            open = None;
        }
        KafkaDelivery { shared: Arc::clone(&self.shared), message, open, attempts: attempts + 1 }
    }
}

fn settle(shared: &Membership, ticket: Ticket) -> bool {
    let mut tracker = shared.tracker.lock();
    let result = tracker.finish(ticket);
    let refill_due = tracker.refill_due();
    drop(tracker);
    shared.answered(refill_due);
    !matches!(result, Err(Revoked))
}

impl crate::queue::Subscriber for KafkaSubscriber {
    type Delivery = KafkaDelivery;

    async fn recv(&mut self) -> Result<KafkaDelivery, SubscribeError> {
        let record = poll_fn(|context| self.poll_next(context)).await?;
        self.shared.counters.delivered(1);
        Ok(self.deliver(record))
    }

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<KafkaDelivery>,
    ) -> Result<usize, SubscribeError> {
        if max == 0 {
            return Ok(0);
        }
        let first = poll_fn(|context| self.poll_next(context)).await?;
        let mut taken = 1;
        // Counted before they are delivered: an answer must not come before its delivery.
        self.shared.counters.delivered(1);
        into.push(self.deliver(first));
        while taken < max {
            let Some(record) = self.next_local() else { break };
            self.shared.counters.delivered(1);
            into.push(self.deliver(record));
            taken += 1;
        }
        Ok(taken)
    }
}

impl Drop for KafkaSubscriber {
    fn drop(&mut self) {
        self.shared.advance(Phase::Stopping);
    }
}

/// A message in a consumer's hands.
#[derive(Debug)]
pub struct KafkaDelivery {
    shared: Arc<Membership>,
    message: Message,
    /// The answer that is owed.
    open: Option<Ticket>,
    attempts: u32,
}

impl KafkaDelivery {
    fn give_back(&mut self, ticket: Ticket, delay: Duration) -> bool {
        self.shared.counters.nacked();
        if !self.shared.tracker.lock().is_current(ticket) {
            return false;
        }
        let record = Record { message: std::mem::take(&mut self.message), ticket, attempts: self.attempts };
        self.shared.give_back(record, delay);
        true
    }

    fn too_late(&self) -> AckError {
        let reason = format!(
            "the partition left this member of group `{}` before the answer; its messages are delivered again",
            self.shared.group
        );
        AckError { backend: BACKEND, reason }
    }
}

impl crate::queue::Delivery for KafkaDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    /// A cheap copy: the original stays for redelivery.
    fn take_message(&mut self) -> Message {
        if self.open.is_some() { self.message.clone() } else { std::mem::take(&mut self.message) }
    }

    /// Kafka does not count deliveries: known from the second one by the same subscriber on.
    fn attempt(&self) -> Option<u32> {
        (self.attempts > 1).then_some(self.attempts)
    }

    async fn ack(mut self) -> Result<(), AckError> {
        let Some(ticket) = self.open.take() else { return Ok(()) };
        if settle(&self.shared, ticket) {
            self.shared.counters.acked();
            Ok(())
        } else {
            self.shared.counters.nacked();
            Err(self.too_late())
        }
    }

    async fn nack(mut self, delay: Duration) -> Result<(), AckError> {
        let Some(ticket) = self.open.take() else { return Ok(()) };
        if self.give_back(ticket, delay) { Ok(()) } else { Err(self.too_late()) }
    }
}

impl Drop for KafkaDelivery {
    fn drop(&mut self) {
        if let Some(ticket) = self.open.take() {
            self.give_back(ticket, Duration::ZERO);
        }
    }
}
