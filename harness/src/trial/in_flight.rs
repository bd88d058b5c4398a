//! Messages between their sending and their acknowledgement.
//!
//! A fixed table: the producer takes a slot, the thread that reads acknowledgements gives it back. The slot
//! is the token under which the backend reports the outcome, and the number of taken slots is the bound on
//! messages in flight.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;

use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;

use crate::clock::Nanos;

/// What must be remembered of a message until its outcome is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) due: Nanos,
    pub(super) sent: Nanos,
    pub(super) sequence: u64,
    pub(super) phase: u16,
}

#[derive(Default)]
struct Slot {
    due: AtomicU64,
    sent: AtomicU64,
    sequence: AtomicU64,
    phase: AtomicU32,
}

/// One producer's table.
pub(super) struct InFlight {
    slots: Box<[Slot]>,
    free: ArrayQueue<u32>,
    taken: AtomicU32,
    freed: AtomicWaker,
}

impl InFlight {
    pub(super) fn new(capacity: u32) -> Self {
        let free = ArrayQueue::new(capacity as usize);
        for slot in 0..capacity {
            free.push(slot).expect("the queue has room for every slot");
        }
        Self {
            slots: (0..capacity).map(|_| Slot::default()).collect(),
            free,
            taken: AtomicU32::new(0),
            freed: AtomicWaker::new(),
        }
    }

    /// A slot, if fewer than `limit` are taken. One thread takes, so the check cannot be overtaken.
    pub(super) fn try_take(&self, limit: u32) -> Option<u32> {
        if self.taken.load(Ordering::Acquire) >= limit {
            return None;
        }
        let slot = self.free.pop()?;
        self.taken.fetch_add(1, Ordering::AcqRel);
        Some(slot)
    }

    /// Waits for a slot.
    pub(super) async fn take(&self, limit: u32) -> u32 {
        poll_fn(|context| {
            if let Some(slot) = self.try_take(limit) {
                return Poll::Ready(slot);
            }
            self.freed.register(context.waker());
            // A slot freed before the registration woke nobody.
            self.try_take(limit).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Fills a taken slot, before the message is handed to the backend.
    pub(super) fn fill(&self, slot: u32, message: Sent) {
        let at = &self.slots[slot as usize];
        at.due.store(message.due, Ordering::Relaxed);
        at.sent.store(message.sent, Ordering::Relaxed);
        at.sequence.store(message.sequence, Ordering::Relaxed);
        // Publishes the fields above to whoever reads the outcome.
        at.phase.store(u32::from(message.phase), Ordering::Release);
    }

    /// What a slot holds.
    pub(super) fn read(&self, slot: u32) -> Sent {
        let at = &self.slots[slot as usize];
        let phase = at.phase.load(Ordering::Acquire);
        Sent {
            due: at.due.load(Ordering::Relaxed),
            sent: at.sent.load(Ordering::Relaxed),
            sequence: at.sequence.load(Ordering::Relaxed),
            phase: u16::try_from(phase).expect("filled from 16 bits"),
        }
    }

    /// Gives a slot back.
    pub(super) fn free(&self, slot: u32) {
        self.free.push(slot).expect("a slot is given back once");
        self.taken.fetch_sub(1, Ordering::AcqRel);
        self.freed.wake();
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InFlight({} of {})", self.taken(), self.slots.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_below_the_capacity() {
        let table = InFlight::new(4);
        let first = table.try_take(2).unwrap();
        table.try_take(2).unwrap();
        assert!(table.try_take(2).is_none());
        table.free(first);
        assert_eq!(table.try_take(2), Some(2));
        assert_eq!(table.taken(), 2);
    }

    #[test]
    fn a_freed_slot_wakes_the_one_who_waits() {
        let table = std::sync::Arc::new(InFlight::new(1));
        let slot = table.try_take(1).unwrap();
        let other = std::sync::Arc::clone(&table);
        let waiter = std::thread::spawn(move || super::super::park::Parker::new().block_on(other.take(1)));
        table.free(slot);
        assert_eq!(waiter.join().unwrap(), slot);
    }
}
