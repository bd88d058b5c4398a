//! The counters of one client, without locks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::queue::{Outcome, Statistics};

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) deduplicated: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) nacked: AtomicU64,
    pub(super) reconnects: AtomicU64,
}

impl Counters {
    pub(super) fn settle(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Acknowledged => &self.acknowledged,
            Outcome::Rejected(_) => &self.rejected,
            Outcome::Unknown(_) => &self.unknown,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        let settled =
            self.acknowledged.load(Relaxed) + self.rejected.load(Relaxed) + self.unknown.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(settled)
    }

    pub(super) fn in_hand(&self) -> u64 {
        let answered = self.acked.load(Relaxed) + self.nacked.load(Relaxed);
        self.delivered.load(Relaxed).saturating_sub(answered)
    }

    pub(super) fn read(&self, capacity: Option<u64>) -> Statistics {
        Statistics {
            accepted: self.accepted.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            refused: self.refused.load(Relaxed),
            deduplicated: self.deduplicated.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            redelivered: self.redelivered.load(Relaxed),
            acked: self.acked.load(Relaxed),
            nacked: self.nacked.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            capacity,
            children: Vec::new(),
        }
    }
}
