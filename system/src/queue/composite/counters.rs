//! Counters of logical messages.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::Statistics;

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: Counter,
    pub(super) acknowledged: Counter,
    pub(super) rejected: Counter,
    pub(super) unknown: Counter,
    pub(super) refused: Counter,
    /// Copies that were dropped, or are held beside the one that was delivered.
    pub(super) copies: Counter,
    pub(super) delivered: Counter,
    pub(super) redelivered: Counter,
    pub(super) acked: Counter,
    pub(super) nacked: Counter,
}

impl Counters {
    pub(super) fn in_hand(&self) -> u64 {
        let answered = self.acked.get() + self.nacked.get();
        self.delivered.get().saturating_sub(answered)
    }

    pub(super) fn snapshot(&self) -> Statistics {
        Statistics {
            accepted: self.accepted.get(),
            acknowledged: self.acknowledged.get(),
            rejected: self.rejected.get(),
            unknown: self.unknown.get(),
            refused: self.refused.get(),
            deduplicated: self.copies.get(),
            delivered: self.delivered.get(),
            redelivered: self.redelivered.get(),
            acked: self.acked.get(),
            nacked: self.nacked.get(),
            ..Statistics::default()
        }
    }
}
