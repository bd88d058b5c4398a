//! The messages of one publishing connection that have no outcome yet.
//!
//! A slot is taken before a message is sent and given back when its fate is known; the reply subject of a
//! message ends with its slot's number. Bounded by `max_in_flight`: who finds no free slot waits. Each slot
//! has a lock of its own, which only its holder and the one reader of acknowledgements ever take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::publisher::Owner;
use crate::message::Message;
use crate::queue::Token;

/// A message without an outcome.
#[derive(Debug)]
pub(super) struct Entry {
    /// Place in the order of acceptance; also tells this entry from the slot's next one.
    pub(super) order: u64,
    pub(super) token: Token,
    pub(super) owner: Arc<Owner>,
    pub(super) message: Message,
    /// The session it was last given to; 0: none yet.
    pub(super) session: u64,
    /// How often it was given to a session.
    pub(super) tries: u32,
    /// Whether a copy may have been stored without our knowing.
    pub(super) doubtful: bool,
    /// The clock when it was accepted.
    pub(super) accepted_tick: u32,
    /// The clock when it was last given to a session.
    pub(super) sent_tick: u32,
}

impl Entry {
    /// Whether a second copy would be recognised by the server.
    pub(super) fn has_id(&self) -> bool {
        !self.message.id.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Mutex<Option<Entry>>]>,
    free: ArrayQueue<u32>,
    /// One permit per free slot, except for permits on their way to a waiter.
    room: Semaphore,
    order: AtomicU64,
}

impl Slots {
    pub(super) fn new(capacity: usize) -> Self {
        let free = ArrayQueue::new(capacity);
        for slot in 0..capacity {
            let slot = u32::try_from(slot).expect("the configuration bounds the slots below 2^32");
            free.push(slot).expect("the free list holds every slot");
        }
        Self {
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
            free,
            room: Semaphore::new(capacity),
            order: AtomicU64::new(1),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Waits for a free slot; `None` once closed.
    pub(super) async fn reserve(&self) -> Option<u32> {
        let permit = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.room.acquire().await.ok()?,
        };
        permit.forget();
        let slot = self.free.pop();
        debug_assert!(slot.is_some(), "a permit stands for a free slot");
        slot
    }

    /// A number that grows with every accepted message.
    pub(super) fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn put(&self, slot: u32, entry: Entry) {
        *self.slots[slot as usize].lock() = Some(entry);
    }

    /// Takes out what is in a slot; the slot itself stays reserved until [`release`](Self::release).
    pub(super) fn take(&self, slot: usize) -> Option<Entry> {
        self.slots.get(slot)?.lock().take()
    }

    /// Takes out what is in a slot if `of` says so.
    pub(super) fn take_if(&self, slot: usize, of: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let mut held = self.slots.get(slot)?.lock();
        if held.as_ref().is_some_and(of) { held.take() } else { None }
    }

    /// Looks at or changes what is in a slot.
    pub(super) fn with<R>(&self, slot: usize, of: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.slots.get(slot)?.lock().as_mut().map(of)
    }

    pub(super) fn release(&self, slot: u32) {
        let returned = self.free.push(slot);
        debug_assert!(returned.is_ok(), "a slot is given back once");
        self.room.add_permits(1);
    }

    /// Wakes everybody who waits for room, and lets nobody in again.
    pub(super) fn close(&self) {
        self.room.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// The occupied slots for which `of` holds, in order of acceptance.
    pub(super) fn select(&self, of: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let mut found: Vec<(u64, usize)> = Vec::new();
        for (slot, held) in self.slots.iter().enumerate() {
            if let Some(entry) = held.lock().as_ref().filter(|entry| of(entry)) {
                found.push((entry.order, slot));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }
}
