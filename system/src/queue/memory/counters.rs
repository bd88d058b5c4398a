//! Counters with one writer at a time: the holder of the queue's lock. Readers need no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::Statistics;

/// One count. Not a read-modify-write: the lock that every writer holds makes a plain store enough.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) delivered: Counter,
    pub(super) redelivered: Counter,
    pub(super) acked: Counter,
    pub(super) nacked: Counter,
}

impl Counters {
    /// Read from the end of a message's way to its start, so that a snapshot taken while messages move
    /// never shows more answers than deliveries.
    pub(super) fn snapshot(&self, capacity: usize) -> Statistics {
        let acked = self.acked.get();
        let nacked = self.nacked.get();
        let redelivered = self.redelivered.get();
        let delivered = self.delivered.get();
        let accepted = self.accepted.get();
        Statistics {
            accepted,
            acknowledged: accepted,
            refused: self.refused.get(),
            delivered,
            redelivered,
            acked,
            nacked,
            capacity: Some(capacity as u64),
            ..Statistics::default()
        }
    }
}
