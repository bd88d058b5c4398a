//! The slot table behind [`Producer`](super::Producer): one slot per message in flight.
//!
//! A token names a slot and the slot's generation, so an answer that comes after its slot was given to
//! another message is recognised and dropped. A slot whose future was dropped stays taken until its answer
//! comes: the number of slots is therefore a true bound on messages in flight. Nothing here locks or
//! allocates after construction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use tokio::sync::Semaphore;

use crate::queue::{Completions, Outcome, RejectReason, Token, UnknownReason};

/// No message has this slot.
const FREE: u8 = 0;
/// A message waits for its outcome, and somebody waits for it.
const PENDING: u8 = 1;
/// A message waits for its outcome, and nobody cares.
const ABANDONED: u8 = 2;

#[derive(Debug, Default)]
struct Slot {
    /// Generation in the high half, status (above, or an outcome's code) in the low byte.
    state: AtomicU64,
    waker: AtomicWaker,
}

/// All slots of one producer.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free: ArrayQueue<u32>,
    /// As many permits as there are indexes in `free`; an index is put back before its permit is.
    permits: Semaphore,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let free = ArrayQueue::new(count as usize);
        for index in 0..count {
            free.push(index).expect("the queue of free slots holds them all");
        }
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            free,
            permits: Semaphore::new(count as usize),
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.slots.len() - self.permits.available_permits()
    }

    /// Waits for a free slot and marks it pending.
    pub(super) async fn reserve(&self) -> Token {
        self.permits.acquire().await.expect("the semaphore of slots is never closed").forget();
        self.mark()
    }

    /// A free slot, if there is one now.
    pub(super) fn try_reserve(&self) -> Option<Token> {
        self.permits.try_acquire().ok()?.forget();
        Some(self.mark())
    }

    fn mark(&self) -> Token {
        let index = self.free.pop().expect("a permit stands for a free slot");
        let state = &self.slots[index as usize].state;
        // A free slot has no other writer: a late answer carries an older generation and changes nothing.
        let generation = generation_of(state.load(Ordering::Acquire)).wrapping_add(1);
        state.store(pack(generation, PENDING), Ordering::Release);
        Token((u64::from(generation) << 32) | u64::from(index))
    }

    /// Frees a slot whose message was never accepted, or whose outcome has been read.
    pub(super) fn release(&self, token: Token) {
        let (index, generation) = split(token);
        self.slots[index as usize].state.store(pack(generation, FREE), Ordering::Release);
        self.slots[index as usize].waker.take();
        let _ = self.free.push(index);
        self.permits.add_permits(1);
    }

    /// The outcome under `token`; registers the waker when there is none yet. Frees the slot when ready.
    pub(super) fn poll(&self, token: Token, context: &Context<'_>) -> Poll<Outcome> {
        let (index, _) = split(token);
        let slot = &self.slots[index as usize];
        let mut outcome = decode(status_of(slot.state.load(Ordering::Acquire)));
        if outcome.is_none() {
            slot.waker.register(context.waker());
            outcome = decode(status_of(slot.state.load(Ordering::Acquire)));
        }
        match outcome {
            Some(outcome) => {
                self.release(token);
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }

    /// Nobody waits for this outcome any more; the slot is freed when it comes.
    pub(super) fn abandon(&self, token: Token) {
        let (index, generation) = split(token);
        let swapped = self.slots[index as usize].state.compare_exchange(
            pack(generation, PENDING),
            pack(generation, ABANDONED),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if swapped.is_err() {
            // The outcome was there already, unread.
            self.release(token);
        }
    }
}

impl Completions for Slots {
    fn complete(&self, token: Token, outcome: Outcome) {
        let (index, generation) = split(token);
        let Some(slot) = self.slots.get(index as usize) else { return };
        let mut state = slot.state.load(Ordering::Acquire);
        // At most two rounds: the only competing change is PENDING to ABANDONED.
        loop {
            if generation_of(state) != generation {
                return;
            }
            match status_of(state) {
                PENDING => {
                    let done = pack(generation, encode(outcome));
                    match slot.state.compare_exchange(state, done, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return slot.waker.wake(),
                        Err(now) => state = now,
                    }
                }
                ABANDONED => return self.release(token),
                _ => return,
            }
        }
    }
}

fn pack(generation: u32, status: u8) -> u64 {
    (u64::from(generation) << 32) | u64::from(status)
}

fn generation_of(state: u64) -> u32 {
    (state >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "takes the low byte")]
fn status_of(state: u64) -> u8 {
    state as u8
}

#[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
fn split(token: Token) -> (u32, u32) {
    (token.0 as u32, generation_of(token.0))
}

/// Every outcome and its status byte; the one table for both directions.
const OUTCOMES: [(u8, Outcome); 8] = [
    (16, Outcome::Acknowledged),
    (17, Outcome::Rejected(RejectReason::Full)),
    (18, Outcome::Rejected(RejectReason::TooLarge)),
    (19, Outcome::Rejected(RejectReason::Refused)),
    (20, Outcome::Rejected(RejectReason::NotSent)),
    (21, Outcome::Unknown(UnknownReason::TimedOut)),
    (22, Outcome::Unknown(UnknownReason::Disconnected)),
    (23, Outcome::Unknown(UnknownReason::Partial)),
];

fn encode(outcome: Outcome) -> u8 {
    let entry = OUTCOMES.iter().find(|(_, listed)| *listed == outcome);
    entry.expect("every outcome is in the table").0
}

fn decode(status: u8) -> Option<Outcome> {
    OUTCOMES.iter().find(|(code, _)| *code == status).map(|(_, outcome)| *outcome)
}
