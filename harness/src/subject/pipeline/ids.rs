//! Holds the id of each accepted answer against the id under which the same bytes were processed.
//!
//! Whichever side comes first waits in a map; the other one takes it out, so what is remembered is what only
//! one side has seen: messages on their way, and at the end those that are missing on one side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// So many locks that producers and consumers seldom meet at one.
const SHARDS: usize = 16;

/// Ids that one side has seen.
#[derive(Debug, Default)]
pub(super) struct Ids {
    shards: [Mutex<HashMap<u128, Seen>>; SHARDS],
    matched: AtomicU64,
    mismatched: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Accepted,
    Processed,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    side: Side,
    /// Of the message's bytes.
    hash: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Ids that both sides named for the same bytes.
    pub(super) matched: u64,
    /// Ids that the sides named for different bytes.
    pub(super) mismatched: u64,
    /// Accepted and not processed.
    pub(super) accepted_only: u64,
    /// Processed, and never named in an answer that came; a second processing of one message counts here.
    pub(super) processed_only: u64,
}

impl Ids {
    pub(super) fn accepted(&self, id: u128, hash: u64) {
        self.see(id, Seen { side: Side::Accepted, hash });
    }

    pub(super) fn processed(&self, id: u128, hash: u64) {
        self.see(id, Seen { side: Side::Processed, hash });
    }

    fn see(&self, id: u128, seen: Seen) {
        // The last bits of a random id are random.
        let shard = &self.shards[usize::try_from(id % SHARDS as u128).unwrap_or(0)];
        let mut waiting = shard.lock();
        match waiting.get(&id) {
            Some(other) if other.side != seen.side => {
                let counter = if other.hash == seen.hash { &self.matched } else { &self.mismatched };
                counter.fetch_add(1, Ordering::Relaxed);
                waiting.remove(&id);
            }
            _ => {
                waiting.insert(id, seen);
            }
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally {
            matched: self.matched.load(Ordering::Relaxed),
            mismatched: self.mismatched.load(Ordering::Relaxed),
            ..Tally::default()
        };
        for shard in &self.shards {
            for seen in shard.lock().values() {
                match seen.side {
                    Side::Accepted => tally.accepted_only += 1,
                    Side::Processed => tally.processed_only += 1,
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_meet_in_either_order_and_what_does_not_fit_is_counted() {
        let ids = Ids::default();
        ids.accepted(1, 10);
        ids.processed(1, 10);
        ids.processed(2, 20);
        ids.accepted(2, 20);
        ids.accepted(3, 30);
        ids.processed(3, 31);
        ids.accepted(4, 40);
        ids.processed(5, 50);
        let wanted = Tally { matched: 2, mismatched: 1, accepted_only: 1, processed_only: 1 };
        assert_eq!(ids.tally(), wanted);
    }
}
