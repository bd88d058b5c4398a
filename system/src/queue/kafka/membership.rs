//! What a subscriber, its poller thread and librdkafka's group callbacks share.
//!
//! The poller hands records over in batches; the subscriber swaps the whole batch out, so a record costs
//! no lock of its own. Bounds: the tracker's prefetch covers all that was received and not answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::counters::Counters;
use super::native::Route;
use super::stats::ClientNotes;
use super::tracker::{Ticket, Tracker};
use crate::message::Message;
use crate::queue::SubscribeError;

/// A received message on its way to the consumer.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) message: Message,
    pub(super) ticket: Ticket,
    /// Deliveries so far by this subscriber.
    pub(super) attempts: u32,
}

/// How far a subscription is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Receives.
    Running = 0,
    /// Hands nothing more out; answers still count.
    Draining = 1,
    /// Leaves the group.
    Stopping = 2,
}

/// The shared state of one subscription.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) counters: Arc<Counters>,
    pub(super) notes: Arc<ClientNotes>,
    pub(super) tracker: Mutex<Tracker>,
    pub(super) on_receive: bool,
    /// Reads only what is committed, so the log holds more than the messages.
    pub(super) transactional: bool,
    pub(super) waker: AtomicWaker,
    pub(super) revocations: AtomicU64,
    pub(super) assigned: AtomicBool,
    ready: Mutex<Ready>,
    later: Mutex<Vec<(Instant, Record)>>,
    phase: AtomicU8,
    starved: AtomicBool,
    poller: OnceLock<Thread>,
    pub(super) route: Mutex<Option<Arc<Route>>>,
    ended: Mutex<bool>,
    ended_signal: Condvar,
}

#[derive(Debug, Default)]
struct Ready {
    records: VecDeque<Record>,
    end: Option<SubscribeError>,
}

impl Membership {
    pub(super) fn new(
        topic: String,
        group: String,
        prefetch: usize,
        on_receive: bool,
        transactional: bool,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            topic,
            group,
            notes: Arc::new(ClientNotes::new(Arc::clone(&counters))),
            counters,
            tracker: Mutex::new(Tracker::new(prefetch)),
            on_receive,
            transactional,
            waker: AtomicWaker::new(),
            revocations: AtomicU64::new(0),
            assigned: AtomicBool::new(false),
            ready: Mutex::default(),
            later: Mutex::default(),
            phase: AtomicU8::new(Phase::Running as u8),
            starved: AtomicBool::new(false),
            poller: OnceLock::new(),
            route: Mutex::new(None),
            ended: Mutex::new(false),
            ended_signal: Condvar::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Goes on to a later phase; never back.
    pub(super) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, SeqCst);
        if phase >= Phase::Draining {
            self.end(SubscribeError::Closed);
        }
        if let Some(route) = &*self.route.lock() {
            route.interrupt();
        }
        self.wake_poller();
    }

    /// Nothing more comes; what waits is left to the next member of the group.
    pub(super) fn end(&self, reason: SubscribeError) {
        let mut ready = self.ready.lock();
        ready.records.clear();
        ready.end.get_or_insert(reason);
        drop(ready);
        self.later.lock().clear();
        self.waker.wake();
    }

    /// Gives records to the subscriber.
    pub(super) fn hand_over(&self, records: impl IntoIterator<Item = Record>) {
        let mut ready = self.ready.lock();
        if ready.end.is_some() {
            return;
        }
        ready.records.extend(records);
        drop(ready);
        self.waker.wake();
    }

    /// Takes everything that is ready; `into` must be empty.
    pub(super) fn take_ready(&self, into: &mut VecDeque<Record>) -> Result<(), SubscribeError> {
        let mut ready = self.ready.lock();
        std::mem::swap(&mut ready.records, into);
        match &ready.end {
            Some(reason) if into.is_empty() => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    /// Puts a record back for redelivery.
    pub(super) fn give_back(&self, record: Record, delay: Duration) {
        if self.phase() != Phase::Running {
            return;
        }
        if delay.is_zero() {
            self.hand_over([record]);
        } else {
            self.later.lock().push((Instant::now() + delay, record));
        }
    }

    /// Hands over what was given back and is due; returns when the next one is.
    pub(super) fn redeliver_due(&self) -> Option<Instant> {
        let mut later = self.later.lock();
        if later.is_empty() {
            return None;
        }
        let now = Instant::now();
        let due: Vec<Record> =
            later.extract_if(.., |(due, _)| *due <= now).map(|(_, record)| record).collect();
        let next = later.iter().map(|(due, _)| *due).min();
        drop(later);
        if !due.is_empty() {
            self.hand_over(due);
        }
        next
    }

    /// Called by the poller thread on itself.
    pub(super) fn i_am_the_poller(&self) {
        let _ = self.poller.set(std::thread::current());
    }

    /// Blocks the poller until a consumer answers or `limit` is over.
    pub(super) fn await_room(&self, limit: Duration) {
        self.starved.store(true, SeqCst);
        if self.tracker.lock().room() == 0 && self.phase() == Phase::Running {
            std::thread::park_timeout(limit);
        }
        self.starved.store(false, SeqCst);
    }

    /// A consumer answered; `refill_due` as the tracker sees it.
    pub(super) fn answered(&self, refill_due: bool) {
        if refill_due && self.starved.load(SeqCst) {
            self.wake_poller();
        }
    }

    fn wake_poller(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    /// The poller's last act.
    pub(super) fn poller_ended(&self) {
        self.end(SubscribeError::Closed);
        *self.ended.lock() = true;
        self.ended_signal.notify_all();
    }

    /// Whether the poller has ended.
    pub(super) fn has_ended(&self) -> bool {
        *self.ended.lock()
    }

    /// Blocks until the poller has ended, or the deadline.
    pub(super) fn await_end(&self, until: Instant) -> bool {
        let mut ended = self.ended.lock();
        while !*ended {
            if self.ended_signal.wait_until(&mut ended, until).timed_out() {
                break;
            }
        }
        *ended
    }

    /// The positions that moved, as librdkafka wants them.
    pub(super) fn moved_positions(&self) -> Option<TopicPartitionList> {
        let mut positions = None;
        self.tracker.lock().take_moved(|partition, offset| {
            let list = positions.get_or_insert_with(TopicPartitionList::new);
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            if let Err(error) = list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)) {
                tracing::error!(%error, "a position cannot be stored");
            }
        });
        positions
    }
}

/// librdkafka's callbacks, on the poller thread.
pub(super) struct GroupEvents(pub(super) Arc<Membership>);

impl ClientContext for GroupEvents {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.notes.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.notes.error(&error, reason);
    }

    fn stats(&self, report: Statistics) {
        self.0.notes.report(&report);
    }
}

impl ConsumerContext for GroupEvents {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let shared = &self.0;
        match rebalance {
            Rebalance::Assign(partitions) => {
                for element in partitions.elements() {
                    // Before the partition is fetched, so that its first message goes the new way.
                    if let Some(route) = &*shared.route.lock() {
                        route.take(&shared.topic, element.partition());
                    }
                    if let Ok(partition) = u32::try_from(element.partition()) {
                        shared.tracker.lock().assign(partition);
                    }
                }
                tracing::info!(group = shared.group, partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Revoke(partitions) => {
                // What is processed is committed before the next owner looks; what is not is forgotten
                // here and delivered there.
                if !shared.on_receive
                    && let Some(positions) = shared.moved_positions()
                    && !consumer.assignment_lost()
                    && let Err(error) = consumer.commit(&positions, CommitMode::Sync)
                {
                    tracing::warn!(%error, "processed messages of revoked partitions may be delivered again");
                }
                for element in partitions.elements() {
                    if let Ok(partition) = u32::try_from(element.partition()) {
                        shared.tracker.lock().revoke(partition);
                    }
                }
                shared.revocations.fetch_add(1, SeqCst);
                tracing::info!(group = shared.group, partitions = partitions.count(), "partitions revoked");
            }
            Rebalance::Error(error) => tracing::warn!(%error, group = shared.group, "rebalance failed"),
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(partitions) if partitions.count() > 0) {
            self.0.assigned.store(true, SeqCst);
        }
    }
}
