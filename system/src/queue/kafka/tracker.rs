//! Which received messages are processed, per partition, and up to where that makes an offset that may be
//! committed.
//!
//! Kafka commits a position, not a message: what is committed says "everything before is processed". So an
//! acknowledgement out of order waits here until those before it have come. Pure bookkeeping: no clock, no
//! I/O, no locks. Bounds: the caller asks [`Tracker::room`] before it takes more.

use std::collections::VecDeque;

/// How many messages behind an unanswered one may be held processed but uncommitted, at least.
const SPAN: usize = 65_536;

/// Names one received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    partition: u32,
    epoch: u32,
    sequence: u64,
}

/// The partition went to another consumer, or was taken anew, since the message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revoked;

#[derive(Debug, Default)]
struct Partition {
    assigned: bool,
    /// Counts assignments, so that tickets of an earlier one are told apart.
    epoch: u32,
    /// The sequence of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// The offset after the last message of the processed prefix.
    processed: Option<i64>,
    /// `processed` has moved since it was last taken.
    moved: bool,
    /// The offset after the last message received or passed over.
    position: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    done: bool,
}

/// The bookkeeping of one consumer.
#[derive(Debug)]
pub(super) struct Tracker {
    partitions: Vec<Partition>,
    prefetch: usize,
    /// Received and not processed.
    outstanding: usize,
    /// Received and not yet part of a processed prefix: those and the ones that wait behind them.
    held: usize,
}

impl Tracker {
    pub(super) fn new(prefetch: usize) -> Self {
        Self { partitions: Vec::new(), prefetch: prefetch.max(1), outstanding: 0, held: 0 }
    }

    /// How many more messages may be taken.
    pub(super) fn room(&self) -> usize {
        let span = self.prefetch.saturating_mul(16).max(SPAN);
        self.prefetch.saturating_sub(self.outstanding).min(span.saturating_sub(self.held))
    }

    #[cfg(test)]
    fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether so much has been answered that a consumer stopped at the bound should go on.
    pub(super) fn refill_due(&self) -> bool {
        self.outstanding <= self.prefetch / 2
    }

    /// The partition is ours from now on.
    pub(super) fn assign(&mut self, partition: u32) {
        let partition = self.partition(partition);
        partition.assigned = true;
    }

    /// The partition is no longer ours; what was received from it is forgotten.
    pub(super) fn revoke(&mut self, partition: u32) {
        let state = self.partition(partition);
        let held = state.entries.len();
        let outstanding = state.entries.iter().filter(|entry| !entry.done).count();
        *state = Partition { epoch: state.epoch + 1, ..Partition::default() };
        self.held -= held;
        self.outstanding -= outstanding;
    }

    /// A message was received. `None` when its partition is not ours (any more).
    pub(super) fn arrived(&mut self, partition: u32, offset: i64) -> Option<Ticket> {
        let state = self.partition(partition);
        if !state.assigned {
            return None;
        }
        let sequence = state.first + state.entries.len() as u64;
        state.entries.push_back(Entry { offset, done: false });
        let epoch = state.epoch;
        state.position = Some(offset + 1);
        self.outstanding += 1;
        self.held += 1;
        Some(Ticket { partition, epoch, sequence })
    }

    /// Whether a received message is still ours to process.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.partitions.get(ticket.partition as usize).is_some_and(|state| state.epoch == ticket.epoch)
    }

    /// A message was processed. A second answer for the same ticket changes nothing.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Result<(), Revoked> {
        let state = self.partitions.get_mut(ticket.partition as usize).ok_or(Revoked)?;
        if state.epoch != ticket.epoch {
            return Err(Revoked);
        }
        // Before the first entry: answered already.
        let Some(index) = ticket.sequence.checked_sub(state.first) else { return Ok(()) };
        let Some(entry) = usize::try_from(index).ok().and_then(|index| state.entries.get_mut(index)) else {
            return Ok(());
        };
        if std::mem::replace(&mut entry.done, true) {
            return Ok(());
        }
        self.outstanding -= 1;
        while let Some(entry) = state.entries.front().filter(|entry| entry.done) {
            state.processed = Some(entry.offset + 1);
            state.moved = true;
            state.entries.pop_front();
            state.first += 1;
            self.held -= 1;
        }
        Ok(())
    }

    /// The log up to `offset` holds nothing more for us (markers of transactions, aborted messages): when
    /// everything received is processed, so is that.
    pub(super) fn skip_to(&mut self, partition: u32, offset: i64) {
        let state = self.partition(partition);
        if state.assigned {
            state.position = state.position.max(Some(offset));
        }
        if state.assigned && state.entries.is_empty() && state.processed.is_none_or(|before| before < offset)
        {
            state.processed = Some(offset);
            state.moved = true;
        }
    }

    /// Gives every position that moved since the last call to `store`.
    pub(super) fn take_moved(&mut self, mut store: impl FnMut(u32, i64)) {
        for (number, state) in (0..).zip(&mut self.partitions) {
            if let (true, Some(offset)) = (std::mem::take(&mut state.moved), state.processed) {
                store(number, offset);
            }
        }
    }

    /// For each partition of ours that has begun: its number, the position after what was received from
    /// it, and how many of those messages are not processed.
    pub(super) fn progress(&self) -> impl Iterator<Item = (u32, i64, usize)> + '_ {
        (0..).zip(&self.partitions).filter(|(_, state)| state.assigned).filter_map(|(number, state)| {
            let open = state.entries.iter().filter(|entry| !entry.done).count();
            Some((number, state.position?, open))
        })
    }

    fn partition(&mut self, number: u32) -> &mut Partition {
        let index = number as usize;
        if index >= self.partitions.len() {
            self.partitions.resize_with(index + 1, Partition::default);
        }
        &mut self.partitions[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moved(tracker: &mut Tracker) -> Vec<(u32, i64)> {
        let mut all = Vec::new();
        tracker.take_moved(|partition, offset| all.push((partition, offset)));
        all
    }

    #[test]
    fn an_answer_out_of_order_waits_for_those_before_it() {
        let mut tracker = Tracker::new(10);
        tracker.assign(2);
        let tickets: Vec<_> = [5, 6, 9].map(|offset| tracker.arrived(2, offset).unwrap()).into();
        tracker.finish(tickets[1]).unwrap();
        assert_eq!(moved(&mut tracker), []);
        tracker.finish(tickets[0]).unwrap();
        assert_eq!(moved(&mut tracker), [(2, 7)]);
        assert_eq!(moved(&mut tracker), [], "taken once");
        tracker.finish(tickets[2]).unwrap();
        assert_eq!(moved(&mut tracker), [(2, 10)], "offsets may have gaps");
        assert_eq!(tracker.outstanding(), 0);
    }

    #[test]
    fn what_was_received_before_a_revocation_does_not_count_after_it() {
        let mut tracker = Tracker::new(10);
        assert_eq!(tracker.arrived(0, 1), None, "not assigned");
        tracker.assign(0);
        let old = tracker.arrived(0, 1).unwrap();
        tracker.revoke(0);
        assert_eq!((tracker.outstanding(), tracker.is_current(old)), (0, false));
        assert_eq!(tracker.finish(old), Err(Revoked));
        tracker.assign(0);
        let new = tracker.arrived(0, 1).unwrap();
        assert_eq!(tracker.finish(old), Err(Revoked));
        assert_eq!(tracker.outstanding(), 1);
        tracker.finish(new).unwrap();
        assert_eq!(moved(&mut tracker), [(0, 2)]);
    }

    #[test]
    fn one_slow_message_does_not_stop_the_others_but_bounds_them() {
        let mut tracker = Tracker::new(2);
        tracker.assign(0);
        let slow = tracker.arrived(0, 0).unwrap();
        let mut taken = 1;
        while tracker.room() > 0 {
            let ticket = tracker.arrived(0, taken).unwrap();
            tracker.finish(ticket).unwrap();
            taken += 1;
        }
        assert_eq!(usize::try_from(taken).unwrap(), SPAN);
        tracker.finish(slow).unwrap();
        assert_eq!((moved(&mut tracker), tracker.room()), (vec![(0, taken)], 2));
    }

    #[test]
    fn markers_after_the_last_processed_message_count_as_processed() {
        let mut tracker = Tracker::new(10);
        tracker.skip_to(0, 5);
        assert_eq!(moved(&mut tracker), [], "not ours");
        tracker.assign(0);
        let ticket = tracker.arrived(0, 3).unwrap();
        tracker.skip_to(0, 5);
        assert_eq!(moved(&mut tracker), [], "a message is still open");
        assert_eq!(tracker.progress().collect::<Vec<_>>(), [(0, 5, 1)]);
        tracker.finish(ticket).unwrap();
        tracker.skip_to(0, 5);
        assert_eq!(moved(&mut tracker), [(0, 5)]);
        tracker.skip_to(0, 4);
        assert_eq!(moved(&mut tracker), [], "never back");
        assert_eq!(tracker.progress().collect::<Vec<_>>(), [(0, 5, 0)]);
    }

    proptest! {
        // In whatever order messages are answered: what is to be committed is exactly the processed
        // prefix, and the counts agree with a naive model.
        #[test]
        fn only_the_processed_prefix_is_committed(
            count in 1_usize..60,
            answers in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut tracker = Tracker::new(100);
            tracker.assign(0);
            let tickets: Vec<_> =
                (0..count).map(|n| tracker.arrived(0, i64::try_from(n).unwrap() * 3).unwrap()).collect();
            let mut done = vec![false; count];
            let mut committed = None;
            for answer in answers {
                let index = answer.index(count);
                done[index] = true;
                tracker.finish(tickets[index]).unwrap();
                tracker.take_moved(|_, offset| committed = Some(offset));
                let prefix = done.iter().take_while(|&&done| done).count();
                let expected = (prefix > 0).then(|| i64::try_from(prefix - 1).unwrap() * 3 + 1);
                prop_assert_eq!(committed, expected);
                prop_assert_eq!(tracker.outstanding(), done.iter().filter(|done| !**done).count());
            }
        }
    }
}
