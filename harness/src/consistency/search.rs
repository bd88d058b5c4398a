//! Searches for a legal order of the operations on one register.
//!
//! The algorithm of Wing and Gong (1993) with the memory of Lowe (2017): linearize whatever is pending and
//! legal, go back where nothing is, and never look twice at the same set of linearized operations with the
//! same state. A set is remembered as a 128-bit sum of random numbers, so that a step costs 20 bytes.

use std::collections::HashSet;

use super::register::{Op, Value};

/// An event in the list of calls and returns in order of time.
#[derive(Clone, Copy)]
struct Event {
    op: usize,
    is_call: bool,
}

/// Whether the operations have a legal order; nothing when `steps_max` steps did not tell.
pub(super) fn linearizable(ops: &[Op], steps_max: u64) -> Option<bool> {
    let mut list = List::new(ops);
    let mut seen: HashSet<(u128, Value)> = HashSet::new();
    let mut done: Vec<(usize, Value)> = Vec::new();
    let (mut set, mut state) = (0_u128, 0);
    let mut at = list.first();
    let mut left = steps_max;
    while list.first() != List::HEAD {
        left = left.checked_sub(1)?;
        let Event { op, is_call } = list.events[at];
        if is_call {
            let next = ops[op].effect.apply(state);
            match next.filter(|next| seen.insert((set ^ number(op), *next))) {
                Some(next) => {
                    done.push((op, state));
                    set ^= number(op);
                    state = next;
                    list.lift(op);
                    at = list.first();
                }
                None => at = list.next[at],
            }
        } else {
            // Whatever returned must have been linearized by now.
            let Some((op, before)) = done.pop() else { return Some(false) };
            set ^= number(op);
            state = before;
            list.put_back(op);
            at = list.next[list.call_of[op]];
        }
    }
    Some(true)
}

/// A fixed random number for each operation.
fn number(op: usize) -> u128 {
    xxhash_rust::xxh3::xxh3_128(&op.to_le_bytes())
}

/// Calls and returns in order of time, doubly linked; place 0 is head and end.
struct List {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    call_of: Vec<usize>,
    return_of: Vec<usize>,
}

impl List {
    const HEAD: usize = 0;

    fn new(ops: &[Op]) -> Self {
        let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
        for (index, op) in ops.iter().enumerate() {
            // At the same instant calls come first: the clock cannot tell, so neither do we.
            times.push((op.start, false, index));
            times.push((op.end, true, index));
        }
        times.sort_unstable();
        let mut events = vec![Event { op: 0, is_call: false }];
        let (mut call_of, mut return_of) = (vec![0; ops.len()], vec![0; ops.len()]);
        for (_, is_return, op) in times {
            let place = events.len();
            if is_return {
                return_of[op] = place
            } else {
                call_of[op] = place
            }
            events.push(Event { op, is_call: !is_return });
        }
        let count = events.len();
        let next = (0..count).map(|place| (place + 1) % count).collect();
        let previous = (0..count).map(|place| (place + count - 1) % count).collect();
        Self { events, next, previous, call_of, return_of }
    }

    fn first(&self) -> usize {
        self.next[Self::HEAD]
    }

    /// Takes an operation out.
    fn lift(&mut self, op: usize) {
        for place in [self.call_of[op], self.return_of[op]] {
            let (before, after) = (self.previous[place], self.next[place]);
            self.next[before] = after;
            self.previous[after] = before;
        }
    }

    /// Undoes the last [`lift`](Self::lift) that was not undone.
    fn put_back(&mut self, op: usize) {
        for place in [self.return_of[op], self.call_of[op]] {
            let (before, after) = (self.previous[place], self.next[place]);
            self.next[before] = place;
            self.previous[after] = place;
        }
    }
}
