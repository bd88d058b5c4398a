//! One group: what waits for it, what comes back to it, and who sits in it.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::task::Waker;

use tokio::time::Instant;

use super::PREALLOCATED;

/// A message in a box that is used again and again: what moves from hand to hand is a pointer. Empty only
/// in the pool of boxes and while it is filled.
pub(super) type Parcel<T> = Box<Option<T>>;

/// A message on its second or later way, or on its way out.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) parcel: Parcel<T>,
    /// The place in the order of publication.
    pub(super) sequence: u64,
    /// Which delivery this is, from 1.
    pub(super) attempt: u32,
}

/// Orders a heap by its smallest key first.
#[derive(Debug)]
struct Earliest<K, T>(K, Taken<T>);

impl<K: Ord, T> PartialEq for Earliest<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Ord, T> Eq for Earliest<K, T> {}

impl<K: Ord, T> PartialOrd for Earliest<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Earliest<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

/// A subscriber's place in its group. Stays taken until its last delivery is answered.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) occupied: bool,
    pub(super) prefetch: usize,
    pub(super) in_hand: usize,
    /// Set while a receive waits: for a message (then the seat is in `idle`) or for its own prefetch.
    pub(super) waker: Option<Waker>,
    pub(super) idle: bool,
}

#[derive(Debug)]
pub(super) struct Group<T> {
    /// None until the first subscriber of the queue names it.
    pub(super) name: Option<String>,
    /// False: forgotten; its place may be used again.
    pub(super) active: bool,
    ready: VecDeque<Parcel<T>>,
    /// The sequence of the first message in `ready`.
    first_ready: u64,
    returned: BinaryHeap<Earliest<u64, T>>,
    delayed: BinaryHeap<Earliest<Instant, T>>,
    /// Everything not yet processed: ready, returned, delayed and in hand.
    pub(super) backlog: usize,
    pub(super) in_hand: usize,
    pub(super) seats: Vec<Seat>,
    pub(super) occupied: usize,
    /// Seats that wait for a message, the longest first.
    idle: VecDeque<usize>,
}

impl<T> Group<T> {
    pub(super) fn new(name: Option<String>, capacity: usize) -> Self {
        Self {
            name,
            active: true,
            ready: VecDeque::with_capacity(capacity.min(PREALLOCATED)),
            first_ready: 0,
            returned: BinaryHeap::new(),
            delayed: BinaryHeap::new(),
            backlog: 0,
            in_hand: 0,
            seats: Vec::new(),
            occupied: 0,
            idle: VecDeque::new(),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, parcel: Parcel<T>) {
        self.backlog += 1;
        self.ready.push_back(parcel);
    }

    /// The next message: what came back, oldest first, then what is new.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Taken<T>> {
        if !(self.delayed.is_empty() && self.returned.is_empty())
            && let Some(taken) = self.pop_returned()
        {
            return Some(taken);
        }
        let parcel = self.ready.pop_front()?;
        let sequence = self.first_ready;
        self.first_ready += 1;
        Some(Taken { parcel, sequence, attempt: 1 })
    }

    #[cold]
    fn pop_returned(&mut self) -> Option<Taken<T>> {
        if !self.delayed.is_empty() {
            let now = Instant::now();
            while self.delayed.peek().is_some_and(|Earliest(due, _)| *due <= now) {
                let Some(Earliest(_, taken)) = self.delayed.pop() else { break };
                self.returned.push(Earliest(taken.sequence, taken));
            }
        }
        self.returned.pop().map(|Earliest(_, taken)| taken)
    }

    /// Takes back a message that was in hand.
    pub(super) fn give_back(&mut self, mut taken: Taken<T>, due: Option<Instant>) {
        taken.attempt = taken.attempt.saturating_add(1);
        match due {
            None => self.returned.push(Earliest(taken.sequence, taken)),
            Some(due) => self.delayed.push(Earliest(due, taken)),
        }
    }

    /// When the next delayed message is due.
    #[inline]
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.peek().map(|Earliest(due, _)| *due)
    }

    /// Messages that a receive would get now, or once they are due.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.returned.len() + self.delayed.len()
    }

    /// Drops every message that is not in hand.
    pub(super) fn clear(&mut self) -> Vec<Parcel<T>> {
        self.backlog -= self.waiting();
        self.first_ready += self.ready.len() as u64;
        let ready = self.ready.drain(..);
        let returned = self.returned.drain().map(|Earliest(_, taken)| taken.parcel);
        let delayed = self.delayed.drain().map(|Earliest(_, taken)| taken.parcel);
        ready.chain(returned).chain(delayed).collect()
    }

    pub(super) fn sit_down(&mut self, prefetch: usize) -> usize {
        self.occupied += 1;
        let seat = Seat { occupied: true, prefetch, ..Seat::default() };
        match self.seats.iter().position(|seat| !seat.occupied && seat.in_hand == 0) {
            Some(free) => {
                self.seats[free] = seat;
                free
            }
            None => {
                self.seats.push(seat);
                self.seats.len() - 1
            }
        }
    }

    /// The waker of the seat that has waited longest for a message.
    #[inline]
    pub(super) fn next_idle(&mut self) -> Option<Waker> {
        if self.idle.is_empty() { None } else { self.pop_idle() }
    }

    #[inline(never)]
    fn pop_idle(&mut self) -> Option<Waker> {
        let seat = &mut self.seats[self.idle.pop_front()?];
        seat.idle = false;
        seat.waker.take()
    }

    /// Makes `seat` wait for a message (`idle`) or for its own prefetch. Returns a waker to drop.
    pub(super) fn wait(&mut self, index: usize, waker: &Waker, idle: bool) -> Option<Waker> {
        let seat = &mut self.seats[index];
        if idle && !seat.idle {
            seat.idle = true;
            self.idle.push_back(index);
        }
        match &seat.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => seat.waker.replace(waker.clone()),
        }
    }

    /// Ends the wait of `seat`, if it still waits. Returns its waker.
    pub(super) fn stop_waiting(&mut self, index: usize) -> Option<Waker> {
        let seat = &mut self.seats[index];
        if seat.idle {
            seat.idle = false;
            self.idle.retain(|other| *other != index);
        }
        seat.waker.take()
    }
}
