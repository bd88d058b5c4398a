//! The null subject: answers at once, delivers at once.
//!
//! What it measures is the harness itself: pacer, producer, envelope, ledger, recorder and consumer, with
//! the cheapest possible hand-over in between. A bounded ring per consumer group (65,536 messages; at the
//! bound publishing waits), no acknowledgement state, no redelivery: at most once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use parking_lot::RwLock;
use queuebench_system::message::Message;
use queuebench_system::queue::{
    AckError, Completions, Delivery, DeliveryPromise, Depth, Durability, Outcome, Promise, PublishError,
    Publisher, Queue, QueueError, Statistics, Submitted, SubscribeError, SubscribeOptions, Subscriber, Token,
};
use tokio::sync::Notify;

const CAPACITY: usize = 65_536;

/// After a batch this large a consumer gives way before it sleeps: messages come faster than it could be
/// woken, and waking it would cost the publisher more than the message.
const EAGER_BATCH: usize = 4;

/// How often it gives way in vain, some microseconds in all, before it sleeps.
const TURNS: u32 = 8;

/// The null subject.
#[derive(Debug, Default)]
pub struct Null {
    groups: RwLock<BTreeMap<String, Arc<Group>>>,
    accepted: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Group {
    ring: ArrayQueue<Message>,
    filled: Notify,
    /// A consumer waits for a message, so that publishers notify only then.
    hungry: AtomicBool,
    emptied: Notify,
    /// A publisher waits for room, so that consumers notify only then.
    wanted: AtomicBool,
    closed: AtomicBool,
    delivered: AtomicU64,
}

/// Sends to every group that has subscribed before this publisher was made.
#[derive(Clone)]
pub struct NullPublisher {
    groups: Arc<[Arc<Group>]>,
    accepted: Arc<AtomicU64>,
    completions: Arc<dyn Completions>,
}

impl std::fmt::Debug for NullPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NullPublisher").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

/// Receives for one group.
#[derive(Debug)]
pub struct NullSubscriber {
    group: Arc<Group>,
    /// How often it gives way to others before it sleeps for a message.
    turns: u32,
}

/// A message of the null subject.
#[derive(Debug)]
pub struct NullDelivery(Message);

impl Queue for Null {
    type Publisher = NullPublisher;
    type Subscriber = NullSubscriber;

    fn backend(&self) -> &'static str {
        "null"
    }

    fn promise(&self) -> Promise {
        Promise {
            delivery: DeliveryPromise::AtMostOnce,
            ordered_per_key: true,
            ordered_among_consumers: true,
            durability: Durability::Volatile,
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<NullPublisher, QueueError> {
        Ok(NullPublisher {
            groups: self.groups.read().values().cloned().collect(),
            accepted: Arc::clone(&self.accepted),
            completions,
        })
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<NullSubscriber, QueueError> {
        let mut groups = self.groups.write();
        let group = groups.entry(options.group).or_insert_with(|| {
            Arc::new(Group {
                ring: ArrayQueue::new(CAPACITY),
                filled: Notify::new(),
                hungry: AtomicBool::new(false),
                emptied: Notify::new(),
                wanted: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                delivered: AtomicU64::new(0),
            })
        });
        Ok(NullSubscriber { group: Arc::clone(group), turns: 0 })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let ready = self.groups.read().values().map(|g| g.ring.len() as u64).sum();
        Ok(Depth { ready: Some(ready), unacknowledged: Some(0) })
    }

    fn statistics(&self) -> Statistics {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let delivered = self.groups.read().values().map(|g| g.delivered.load(Ordering::Relaxed)).sum();
        Statistics { accepted, acknowledged: accepted, delivered, acked: delivered, ..Statistics::default() }
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        Ok(BTreeMap::from([("capacity".to_owned(), CAPACITY.to_string())]))
    }

    async fn close(&self, _deadline: Duration) -> Result<(), QueueError> {
        for group in self.groups.read().values() {
            group.closed.store(true, Ordering::Release);
            group.filled.notify_waiters();
            group.emptied.notify_waiters();
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

impl Group {
    async fn push(&self, mut message: Message) -> Result<(), PublishError> {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(PublishError::Closed);
            }
            match self.ring.push(message) {
                Ok(()) => {
                    wake(&self.hungry, &self.filled);
                    return Ok(());
                }
                Err(back) => message = back,
            }
            let room = self.emptied.notified();
            announce(&self.wanted);
            if self.ring.is_full() && !self.closed.load(Ordering::Acquire) {
                room.await;
            }
        }
    }

    fn pop_into(&self, max: usize, into: &mut Vec<NullDelivery>) -> usize {
        let before = into.len();
        while into.len() - before < max
            && let Some(message) = self.ring.pop()
        {
            into.push(NullDelivery(message));
        }
        let taken = into.len() - before;
        if taken > 0 {
            self.delivered.fetch_add(taken as u64, Ordering::Relaxed);
            wake(&self.wanted, &self.emptied);
        }
        taken
    }
}

/// Says that the caller is about to sleep. It looks at the ring once more afterwards: whoever changes the ring
/// after that look sees the announcement, because each side puts a fence between its store and its load.
fn announce(waiting: &AtomicBool) {
    waiting.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Wakes those who announced that they sleep, after the ring was changed.
fn wake(waiting: &AtomicBool, sleepers: &Notify) {
    fence(Ordering::SeqCst);
    if waiting.load(Ordering::Relaxed) {
        waiting.store(false, Ordering::Relaxed);
        sleepers.notify_waiters();
    }
}

impl Publisher for NullPublisher {
    async fn publish(&self, message: Message, _token: Token) -> Result<Submitted, PublishError> {
        if let [group] = &*self.groups {
            group.push(message).await?;
        } else {
            for group in &*self.groups {
                group.push(message.clone()).await?;
            }
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Submitted::Acknowledged)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut taken = 0;
        while let Some((message, token)) = batch.pop_front() {
            let _ = self.publish(message, token).await?;
            self.completions.complete(token, Outcome::Acknowledged);
            taken += 1;
        }
        Ok(taken)
    }

    async fn flush(&self, _deadline: Duration) -> usize {
        0
    }
}

impl Subscriber for NullSubscriber {
    type Delivery = NullDelivery;

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<NullDelivery>,
    ) -> Result<usize, SubscribeError> {
        loop {
            let taken = self.group.pop_into(max, into);
            if taken > 0 {
                if taken >= EAGER_BATCH || self.turns > 0 {
                    self.turns = TURNS;
                }
                return Ok(taken);
            }
            if self.group.closed.load(Ordering::Acquire) {
                return Err(SubscribeError::Closed);
            }
            if self.turns > 0 {
                self.turns -= 1;
                tokio::task::yield_now().await;
                continue;
            }
            let filled = self.group.filled.notified();
            announce(&self.group.hungry);
            if self.group.ring.is_empty() && !self.group.closed.load(Ordering::Acquire) {
                filled.await;
            }
        }
    }
}

impl Delivery for NullDelivery {
    fn message(&self) -> &Message {
        &self.0
    }

    fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.0)
    }

    fn attempt(&self) -> Option<u32> {
        Some(1)
    }

    async fn ack(self) -> Result<(), AckError> {
        Ok(())
    }

    async fn nack(self, _delay: Duration) -> Result<(), AckError> {
        Ok(())
    }
}
