//! One group's memory of message ids: which are in a consumer's hands, which are processed.
//!
//! All subscribers of the group in this process share it. An id is remembered while its message is in hand,
//! and after that until [`window`](super::CompositeConfig::window) other messages were processed or given
//! back; a copy that comes later than that is delivered again. Ids of messages in hand are bounded by the
//! subscribers' prefetch.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::message::MessageId;

/// The most copies of one message that are kept to be answered with it.
const MAX_COPIES: usize = 8;

#[derive(Debug)]
enum Known<D> {
    /// With a consumer, or on the way to one; copies that came meanwhile wait for its answer.
    InHand { attempt: u32, copies: Vec<D> },
    /// Given back: the next copy is delivered, as this attempt.
    Returned { attempt: u32, stamp: u64 },
    /// Processed: copies are acknowledged and dropped.
    Settled { stamp: u64 },
}

#[derive(Debug)]
struct Ids<D> {
    known: HashMap<MessageId, Known<D>>,
    /// Ids not in hand, the oldest first, under the stamp that they had when they came here.
    order: VecDeque<(MessageId, u64)>,
    stamp: u64,
}

#[derive(Debug)]
pub(super) struct Merge<D> {
    ids: Mutex<Ids<D>>,
    window: usize,
}

/// What is to be done with a message that a child delivered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sorted<D> {
    /// It was passed on.
    Passed,
    /// It waits for the answer to another copy. What it displaced, if anything, is to be dropped.
    Kept(Option<D>),
    /// Processed before: to be acknowledged.
    Late(D),
    /// Not seen before, or given back: it needs room with the consumer.
    Wanted(D),
}

impl<D> Merge<D> {
    pub(super) fn new(window: usize) -> Self {
        let ids = Ids { known: HashMap::new(), order: VecDeque::new(), stamp: 0 };
        Self { ids: Mutex::new(ids), window }
    }

    /// Sorts a copy without passing it on.
    pub(super) fn sort(&self, id: &MessageId, copy: D) -> Sorted<D> {
        self.ids.lock().sort(id, copy)
    }

    /// Sorts a copy and passes it on if it is wanted, under the lock: what was sorted first is passed on
    /// first, so that the children's common order is kept.
    ///
    /// `first` is the attempt as which a message goes that is not known here.
    pub(super) fn sort_or_pass(
        &self,
        id: &MessageId,
        copy: D,
        first: u32,
        pass: impl FnOnce(D, u32),
    ) -> Sorted<D> {
        let mut ids = self.ids.lock();
        match ids.sort(id, copy) {
            Sorted::Wanted(copy) => {
                let attempt = match ids.known.get(id) {
                    Some(Known::Returned { attempt, .. }) => *attempt,
                    _ => first,
                };
                ids.known.insert(id.clone(), Known::InHand { attempt, copies: Vec::new() });
                pass(copy, attempt);
                Sorted::Passed
            }
            other => other,
        }
    }

    /// The message was processed. Returns the copies to acknowledge with it.
    pub(super) fn settle(&self, id: &MessageId) -> Vec<D> {
        let mut ids = self.ids.lock();
        ids.stamp += 1;
        let stamp = ids.stamp;
        let before = ids.known.insert(id.clone(), Known::Settled { stamp });
        ids.remember(id, stamp, self.window);
        copies_of(before)
    }

    /// The message was given back (`delivered`), or never reached a consumer. Returns the copies to give
    /// back with it.
    pub(super) fn give_back(&self, id: &MessageId, delivered: bool) -> Vec<D> {
        let mut ids = self.ids.lock();
        ids.stamp += 1;
        let stamp = ids.stamp;
        let attempt = match ids.known.get(id) {
            Some(Known::InHand { attempt, .. } | Known::Returned { attempt, .. }) => *attempt,
            _ => 1,
        };
        let attempt = attempt.saturating_add(u32::from(delivered));
        let before = ids.known.insert(id.clone(), Known::Returned { attempt, stamp });
        ids.remember(id, stamp, self.window);
        copies_of(before)
    }
}

impl<D> Ids<D> {
    fn sort(&mut self, id: &MessageId, copy: D) -> Sorted<D> {
        match self.known.get_mut(id) {
            None | Some(Known::Returned { .. }) => Sorted::Wanted(copy),
            Some(Known::Settled { .. }) => Sorted::Late(copy),
            Some(Known::InHand { copies, .. }) => {
                let displaced = (copies.len() == MAX_COPIES).then(|| copies.remove(0));
                copies.push(copy);
                Sorted::Kept(displaced)
            }
        }
    }

    fn remember(&mut self, id: &MessageId, stamp: u64, window: usize) {
        self.order.push_back((id.clone(), stamp));
        while self.order.len() > window {
            let Some((oldest, stamp)) = self.order.pop_front() else { return };
            let current = match self.known.get(&oldest) {
                Some(Known::Settled { stamp } | Known::Returned { stamp, .. }) => Some(*stamp),
                Some(Known::InHand { .. }) | None => None,
            };
            // An id that came back meanwhile stands further behind under a later stamp.
            if current == Some(stamp) {
                self.known.remove(&oldest);
            }
        }
    }
}

fn copies_of<D>(known: Option<Known<D>>) -> Vec<D> {
    match known {
        Some(Known::InHand { copies, .. }) => copies,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(merge: &Merge<u32>, id: &str, copy: u32) -> (Sorted<u32>, Option<u32>) {
        let mut passed = None;
        let sorted = merge.sort_or_pass(&MessageId::from(id), copy, 1, |_, attempt| passed = Some(attempt));
        (sorted, passed)
    }

    #[test]
    fn a_copy_waits_for_the_first_and_a_late_one_is_recognised() {
        let merge = Merge::new(10);
        assert_eq!(deliver(&merge, "a", 1), (Sorted::Passed, Some(1)));
        assert_eq!(deliver(&merge, "a", 2), (Sorted::Kept(None), None));
        assert_eq!(merge.settle(&"a".into()), [2]);
        assert_eq!(deliver(&merge, "a", 3), (Sorted::Late(3), None));
    }

    #[test]
    fn what_is_given_back_is_delivered_once_more() {
        let merge = Merge::new(10);
        deliver(&merge, "a", 1);
        deliver(&merge, "a", 2);
        assert_eq!(merge.give_back(&"a".into(), true), [2]);
        assert_eq!(deliver(&merge, "a", 1), (Sorted::Passed, Some(2)));
        assert_eq!(deliver(&merge, "a", 2), (Sorted::Kept(None), None));
        assert_eq!(merge.give_back(&"a".into(), false), [2]);
        assert_eq!(deliver(&merge, "a", 2), (Sorted::Passed, Some(2)), "it never reached the consumer");
    }

    #[test]
    fn copies_of_one_message_are_bounded() {
        let merge = Merge::new(10);
        deliver(&merge, "a", 0);
        for copy in 1..=8 {
            assert_eq!(deliver(&merge, "a", copy).0, Sorted::Kept(None));
        }
        assert_eq!(deliver(&merge, "a", 9).0, Sorted::Kept(Some(1)));
    }

    #[test]
    fn ids_are_remembered_for_the_window_and_no_longer_and_in_hand_for_ever() {
        let merge = Merge::new(3);
        deliver(&merge, "held", 0);
        for id in ["a", "b", "c", "d"] {
            deliver(&merge, id, 0);
            merge.settle(&id.into());
        }
        assert_eq!(deliver(&merge, "b", 1).0, Sorted::Late(1));
        assert_eq!(deliver(&merge, "a", 1).0, Sorted::Passed, "its place in the window was taken");
        assert_eq!(deliver(&merge, "held", 1).0, Sorted::Kept(None));
        assert!(merge.ids.lock().known.len() <= 3 + 2);
    }

    #[test]
    fn an_id_that_came_back_is_not_forgotten_with_its_first_coming() {
        let merge = Merge::new(3);
        deliver(&merge, "a", 0);
        merge.give_back(&"a".into(), true);
        deliver(&merge, "b", 0);
        merge.settle(&"b".into());
        deliver(&merge, "a", 0);
        merge.settle(&"a".into());
        deliver(&merge, "c", 0);
        merge.settle(&"c".into());
        assert_eq!(deliver(&merge, "a", 1).0, Sorted::Late(1));
    }
}
