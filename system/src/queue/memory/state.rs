//! What the queue's lock guards, and each step as a plain function: from a state and a call to a new
//! state and the wakers that the caller must use after it let go of the lock.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::PREALLOCATED;
use super::counters::Counters;
use super::group::{Group, Parcel, Taken};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Takes nothing more, still delivers.
    Draining,
    Closed,
}

/// Wakers (and wakers to drop) collected under the lock. Neither may run under it: a task that a waker
/// drops or runs could come back for the lock.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Wakes {
    first: Option<Waker>,
    /// In a box, since an empty pointer is all that the usual step, which wakes nobody, should pay for.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    more: Vec<Waker>,
    /// Not to be woken, just to be dropped outside the lock.
    discarded: Option<Waker>,
}

impl Wakes {
    #[inline]
    pub(super) fn add(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.get_or_insert_default().more.push(waker);
        }
    }

    pub(super) fn discard(&mut self, waker: Option<Waker>) {
        if waker.is_some() {
            self.rest.get_or_insert_default().discarded = waker;
        }
    }

    #[inline]
    pub(super) fn wake(self) {
        if self.first.is_some() || self.rest.is_some() {
            self.wake_some();
        }
    }

    #[inline(never)]
    fn wake_some(self) {
        if let Some(waker) = self.first {
            waker.wake();
        }
        if let Some(rest) = self.rest {
            rest.more.into_iter().for_each(Waker::wake);
        }
    }
}

/// What became of an offered item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    Full,
    Closed,
}

/// What a receive found.
#[derive(Debug)]
pub(super) enum Found<T> {
    Message(Taken<T>),
    /// Nothing now; look again when woken, or at this time.
    Wait(Option<Instant>),
    Closed,
}

/// Whose receive it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) seat: usize,
    /// Whether a delivery is answered by being delivered.
    pub(super) on_receive: bool,
}

#[derive(Debug)]
pub(super) struct State<T> {
    capacity: usize,
    pub(super) phase: Phase,
    /// Never empty.
    pub(super) groups: Vec<Group<T>>,
    /// Publishers that wait for room, the longest first; as many as there are waiting calls.
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
    /// Empty boxes; the one used last is taken first, as it is still in the cache.
    pool: Vec<Parcel<T>>,
}

impl<T: Clone> State<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            phase: Phase::Open,
            groups: vec![Group::new(None, capacity)],
            waiting: VecDeque::new(),
            next_ticket: 0,
            pool: Vec::with_capacity(capacity.min(PREALLOCATED)),
        }
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.groups.iter().all(|group| group.backlog < self.capacity)
    }

    /// Takes the item out of `slot` if there is room in every group.
    #[inline]
    pub(super) fn offer(&mut self, slot: &mut Option<T>, counters: &Counters, wakes: &mut Wakes) -> Offered {
        if self.phase != Phase::Open {
            return Offered::Closed;
        }
        if !self.has_room() {
            return Offered::Full;
        }
        let mut parcel = self.pool.pop().unwrap_or_default();
        *parcel = slot.take();
        if let [only] = &mut self.groups[..] {
            only.push(parcel);
            wakes.add(only.next_idle());
        } else {
            self.push_to_each(parcel, wakes);
        }
        counters.accepted.add(1);
        Offered::Taken
    }

    #[inline(never)]
    fn push_to_each(&mut self, parcel: Parcel<T>, wakes: &mut Wakes) {
        let mut groups = self.groups.iter_mut().filter(|group| group.active);
        let last = groups.next_back();
        for group in groups {
            let mut copy = self.pool.pop().unwrap_or_default();
            copy.clone_from(&parcel);
            group.push(copy);
            wakes.add(group.next_idle());
        }
        if let Some(group) = last {
            group.push(parcel);
            wakes.add(group.next_idle());
        }
    }

    /// Takes an empty box back. Returns one that the pool has no need of.
    #[inline]
    pub(super) fn recycle(&mut self, parcel: Parcel<T>) -> Option<Parcel<T>> {
        if self.pool.len() < self.capacity {
            self.pool.push(parcel);
            return None;
        }
        Some(parcel)
    }

    /// Makes a publisher wait for room under `ticket`.
    pub(super) fn wait_for_room(&mut self, ticket: &mut Option<u64>, waker: &Waker, wakes: &mut Wakes) {
        match *ticket {
            None => {
                *ticket = Some(self.next_ticket);
                self.waiting.push_back((self.next_ticket, waker.clone()));
                self.next_ticket += 1;
            }
            Some(ticket) => match self.waiting.iter_mut().find(|(other, _)| *other == ticket) {
                Some((_, known)) => wakes.discard(Some(std::mem::replace(known, waker.clone()))),
                // It was woken and another took the room: it keeps its place at the front.
                None => self.waiting.push_front((ticket, waker.clone())),
            },
        }
    }

    /// Ends the wait of `ticket`. If it had been woken and leaves the room unused, wakes the next.
    pub(super) fn leave(&mut self, ticket: u64, wakes: &mut Wakes) {
        match self.waiting.iter().position(|(other, _)| *other == ticket) {
            Some(at) => wakes.discard(self.waiting.remove(at).map(|(_, waker)| waker)),
            None => self.wake_publishers(wakes),
        }
    }

    #[inline]
    fn wake_publishers(&mut self, wakes: &mut Wakes) {
        if !self.waiting.is_empty() {
            self.wake_first_publisher(wakes);
        }
    }

    #[inline(never)]
    fn wake_first_publisher(&mut self, wakes: &mut Wakes) {
        if self.has_room() {
            wakes.add(self.waiting.pop_front().map(|(_, waker)| waker));
        }
    }

    /// The next message for `place`. With a context, registers it when there is none. Takes an empty box
    /// back on the way.
    #[inline]
    pub(super) fn take(
        &mut self,
        place: Place,
        spare: &mut Option<Parcel<T>>,
        counters: &Counters,
        context: Option<&Context<'_>>,
        wakes: &mut Wakes,
    ) -> Found<T> {
        if let Some(parcel) = spare.take() {
            *spare = self.recycle(parcel);
        }
        let group = &mut self.groups[place.group];
        let seat = &group.seats[place.seat];
        let may_take = seat.in_hand < seat.prefetch && self.phase != Phase::Closed;
        let Some(taken) = (if may_take { group.pop() } else { None }) else {
            return self.found_nothing(place, context, wakes);
        };
        counters.delivered.add(1);
        if taken.attempt > 1 {
            counters.redelivered.add(1);
        }
        if group.next_due().is_some() {
            // Another waiter must watch the clock in this one's stead.
            wakes.add(group.next_idle());
        }
        if place.on_receive {
            group.backlog -= 1;
            counters.acked.add(1);
            self.after_answer(place.group, wakes);
        } else {
            group.in_hand += 1;
            group.seats[place.seat].in_hand += 1;
        }
        Found::Message(taken)
    }

    #[inline(never)]
    fn found_nothing(&mut self, place: Place, context: Option<&Context<'_>>, wakes: &mut Wakes) -> Found<T> {
        let group = &mut self.groups[place.group];
        let seat = &group.seats[place.seat];
        let is_over = self.phase == Phase::Draining && group.backlog == 0;
        if is_over || self.phase == Phase::Closed {
            return Found::Closed;
        }
        let wants_message = seat.in_hand < seat.prefetch;
        if let Some(context) = context {
            wakes.discard(group.wait(place.seat, context.waker(), wants_message));
        }
        Found::Wait(if wants_message { group.next_due() } else { None })
    }

    #[inline]
    fn put_down(&mut self, place: Place, wakes: &mut Wakes) {
        let group = &mut self.groups[place.group];
        group.in_hand -= 1;
        let seat = &mut group.seats[place.seat];
        seat.in_hand -= 1;
        if !seat.idle && seat.waker.is_some() {
            // It waited for its own prefetch.
            wakes.add(seat.waker.take());
        }
    }

    #[inline]
    pub(super) fn ack(&mut self, place: Place, counters: &Counters, wakes: &mut Wakes) {
        self.put_down(place, wakes);
        self.groups[place.group].backlog -= 1;
        counters.acked.add(1);
        self.after_answer(place.group, wakes);
    }

    /// Takes a message back. Returns it when the queue is closed and will not deliver it again.
    pub(super) fn nack(
        &mut self,
        place: Place,
        taken: Taken<T>,
        due: Option<Instant>,
        counters: &Counters,
        wakes: &mut Wakes,
    ) -> Option<Taken<T>> {
        self.put_down(place, wakes);
        counters.nacked.add(1);
        let group = &mut self.groups[place.group];
        if self.phase == Phase::Closed {
            group.backlog -= 1;
            return Some(taken);
        }
        group.give_back(taken, due);
        wakes.add(group.next_idle());
        None
    }

    #[inline]
    fn after_answer(&mut self, group: usize, wakes: &mut Wakes) {
        self.wake_publishers(wakes);
        if self.phase == Phase::Draining {
            self.wake_drained(group, wakes);
        }
    }

    /// Tells receives that wait for a group that is now empty for ever.
    #[cold]
    fn wake_drained(&mut self, group: usize, wakes: &mut Wakes) {
        let group = &mut self.groups[group];
        while group.backlog == 0
            && let Some(waker) = group.next_idle()
        {
            wakes.add(Some(waker));
        }
    }

    /// Ends a receive that was dropped while it waited: a message meant for it must go to another.
    pub(super) fn stop_waiting(&mut self, place: Place, wakes: &mut Wakes) {
        let group = &mut self.groups[place.group];
        wakes.discard(group.stop_waiting(place.seat));
        if group.waiting() > 0 {
            wakes.add(group.next_idle());
        }
    }

    /// Starts the end: nothing more is accepted, and everybody who waits looks again.
    pub(super) fn drain(&mut self, wakes: &mut Wakes) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
        self.wake_all(wakes);
    }

    /// The end: returns what is left to drop, and how many messages were never processed.
    pub(super) fn shut(&mut self, wakes: &mut Wakes) -> (Vec<Parcel<T>>, usize) {
        self.phase = Phase::Closed;
        self.wake_all(wakes);
        let unprocessed = self.backlog();
        let left = self.groups.iter_mut().flat_map(Group::clear);
        (left.chain(std::mem::take(&mut self.pool)).collect(), unprocessed)
    }

    pub(super) fn wake_all_publishers(&mut self, wakes: &mut Wakes) {
        for (_, waker) in self.waiting.drain(..) {
            wakes.add(Some(waker));
        }
    }

    fn wake_all(&mut self, wakes: &mut Wakes) {
        self.wake_all_publishers(wakes);
        for group in &mut self.groups {
            for seat in 0..group.seats.len() {
                let waker = group.stop_waiting(seat);
                wakes.add(waker);
            }
        }
    }

    /// Whether waiting longer would change nothing: all is answered, or nobody is left to take it.
    pub(super) fn is_drained(&self) -> bool {
        self.groups.iter().all(|group| group.in_hand == 0 && (group.backlog == 0 || group.occupied == 0))
    }

    fn backlog(&self) -> usize {
        self.groups.iter().map(|group| group.backlog).sum()
    }
}
