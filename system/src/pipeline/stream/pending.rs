//! Calls that wait for an answer, by number.
//!
//! Numbers rise by one, so the calls lie in a ring: adding, answering and expiring cost no search. All calls of
//! one ring have the same time limit, so the oldest expires first. Bound: `max` numbers between the oldest
//! unanswered call and the newest.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A ring of calls.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    first: u64,
    slots: VecDeque<Option<(Instant, T)>>,
    waiting: usize,
    max: usize,
}

impl<T> Pending<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { first: 0, slots: VecDeque::new(), waiting: 0, max }
    }

    /// Adds a call and returns its number.
    ///
    /// # Errors
    /// Gives the call back when the ring is full.
    pub(crate) fn insert(&mut self, deadline: Instant, call: T) -> Result<u64, T> {
        if self.slots.len() >= self.max {
            return Err(call);
        }
        self.slots.push_back(Some((deadline, call)));
        self.waiting += 1;
        Ok(self.first + self.slots.len() as u64 - 1)
    }

    /// Takes a call out; `None` if it is not, or no longer, waiting.
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let (_, call) = self.slots.get_mut(index)?.take()?;
        self.waiting -= 1;
        self.trim();
        Some(call)
    }

    /// Takes out what is past its deadline.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(Some((deadline, _))) = self.slots.front() {
            if *deadline > now {
                break;
            }
            if let Some(Some((_, call))) = self.slots.pop_front() {
                expired.push(call);
                self.first += 1;
                self.waiting -= 1;
            }
            self.trim();
        }
        expired
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.first += self.slots.len() as u64;
        self.waiting = 0;
        self.slots.drain(..).flatten().map(|(_, call)| call).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// The front is always a waiting call.
    fn trim(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Behaves as a map from number to call, whatever the order of answers.
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..300)) {
            let start = Instant::now();
            let mut now = start;
            let (mut ring, mut model) = (Pending::new(50), BTreeMap::new());
            let mut handed_out = Vec::new();
            for (step, index) in steps {
                match step {
                    0 | 1 => {
                        let deadline = now + Duration::from_millis(10);
                        if let Ok(number) = ring.insert(deadline, handed_out.len()) {
                            model.insert(number, (deadline, handed_out.len()));
                            handed_out.push(number);
                        }
                    }
                    2 if !handed_out.is_empty() => {
                        let number = handed_out[index.index(handed_out.len())];
                        prop_assert_eq!(ring.take(number), model.remove(&number).map(|(_, call)| call));
                    }
                    _ => {
                        now += Duration::from_millis(2);
                        let expired: Vec<_> = ring.expire(now);
                        let wanted: Vec<_> =
                            model.values().filter(|(deadline, _)| *deadline <= now).map(|(_, call)| *call).collect();
                        model.retain(|_, (deadline, _)| *deadline > now);
                        prop_assert_eq!(expired, wanted);
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
            }
            prop_assert_eq!(ring.clear().len(), model.len());
            prop_assert_eq!(ring.len(), 0);
        }
    }
}
