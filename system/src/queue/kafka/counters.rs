//! What one Kafka client counts, without locks.
//!
//! Producers and librdkafka's delivery thread write at the same time at full rate, so the two groups of
//! counters sit on cache lines of their own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::queue::{Outcome, Statistics};

/// Counters shared by every publisher and subscriber of one [`Kafka`](super::Kafka).
#[derive(Debug, Default)]
pub(super) struct Counters {
    intake: CachePadded<Intake>,
    answers: CachePadded<Answers>,
    receive: CachePadded<Receive>,
}

#[derive(Debug, Default)]
struct Intake {
    accepted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Answers {
    acknowledged: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    reconnects: AtomicU64,
}

#[derive(Debug, Default)]
struct Receive {
    delivered: AtomicU64,
    redelivered: AtomicU64,
    acked: AtomicU64,
    nacked: AtomicU64,
    in_hand: AtomicI64,
}

impl Counters {
    pub(super) fn accepted(&self) {
        self.intake.accepted.fetch_add(1, Relaxed);
    }

    /// The client took the message and then could not hand it to librdkafka.
    pub(super) fn not_accepted(&self) {
        self.intake.accepted.fetch_sub(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.intake.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn outcome(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Acknowledged => &self.answers.acknowledged,
            Outcome::Rejected(_) => &self.answers.rejected,
            Outcome::Unknown(_) => &self.answers.unknown,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn reconnected(&self, times: u64) {
        self.answers.reconnects.fetch_add(times, Relaxed);
    }

    pub(super) fn delivered(&self, messages: u64) {
        self.receive.delivered.fetch_add(messages, Relaxed);
        self.receive.in_hand.fetch_add(i64::try_from(messages).unwrap_or(i64::MAX), Relaxed);
    }

    pub(super) fn redelivered(&self) {
        self.receive.redelivered.fetch_add(1, Relaxed);
    }

    pub(super) fn acked(&self) {
        self.receive.acked.fetch_add(1, Relaxed);
        self.receive.in_hand.fetch_sub(1, Relaxed);
    }

    pub(super) fn nacked(&self) {
        self.receive.nacked.fetch_add(1, Relaxed);
        self.receive.in_hand.fetch_sub(1, Relaxed);
    }

    /// Deliveries that a consumer has not answered.
    pub(super) fn in_hand(&self) -> u64 {
        u64::try_from(self.receive.in_hand.load(Relaxed)).unwrap_or(0)
    }

    pub(super) fn snapshot(&self, capacity: u64) -> Statistics {
        Statistics {
            // The answers are read first, so that a message on its way is never counted as answered but
            // not accepted.
            acknowledged: self.answers.acknowledged.load(Relaxed),
            rejected: self.answers.rejected.load(Relaxed),
            unknown: self.answers.unknown.load(Relaxed),
            accepted: self.intake.accepted.load(Relaxed),
            refused: self.intake.refused.load(Relaxed),
            deduplicated: 0,
            acked: self.receive.acked.load(Relaxed),
            nacked: self.receive.nacked.load(Relaxed),
            delivered: self.receive.delivered.load(Relaxed),
            redelivered: self.receive.redelivered.load(Relaxed),
            reconnects: self.answers.reconnects.load(Relaxed),
            capacity: Some(capacity),
            children: Vec::new(),
        }
    }
}
