//! When the answers of several children make one outcome. Plain functions, no clock and no lock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::queue::{Outcome, RejectReason, UnknownReason};

/// The most children; each is a bit of a [`ChildSet`].
pub(super) const MAX_CHILDREN: usize = 16;

/// How many children must have a message for it to count as acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// All. The first failure decides: rejected if no child can have the message, else unknown (partial).
    #[default]
    FailFast,
    /// At least one, and the outcome waits for all that are up. Rejected only if none has it.
    BestEffort,
    /// More than half, and the outcome waits for no more than that.
    Quorum,
}

impl Strategy {
    /// How many of `children` must acknowledge.
    pub fn needed(self, children: usize) -> usize {
        match self {
            Self::FailFast => children,
            Self::BestEffort => 1,
            Self::Quorum => children / 2 + 1,
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "fail-fast" => Ok(Self::FailFast),
            "best-effort" => Ok(Self::BestEffort),
            "quorum" => Ok(Self::Quorum),
            other => Err(format!("`{other}` is not a strategy: fail-fast, best-effort or quorum")),
        }
    }
}

/// Some of a composite's children, by their place in its list.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildSet(u16);

impl ChildSet {
    pub(super) fn all(count: usize) -> Self {
        (0..count).fold(Self::default(), Self::with)
    }

    #[must_use]
    pub(super) fn with(self, child: usize) -> Self {
        Self(self.0 | 1 << child)
    }

    #[must_use]
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    #[must_use]
    pub(super) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether `child` is one of them.
    pub fn contains(self, child: usize) -> bool {
        child < MAX_CHILDREN && self.0 & (1 << child) != 0
    }

    /// How many they are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their places, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_CHILDREN).filter(move |child| self.contains(*child))
    }
}

impl fmt::Debug for ChildSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What the children said about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// These have it.
    pub acknowledged: ChildSet,
    /// These certainly do not; children that were down and not tried are among them.
    pub rejected: ChildSet,
    /// These may have it.
    pub unknown: ChildSet,
    /// These have not answered yet.
    pub pending: ChildSet,
    /// Of the pending, those nobody waits for: they were down, and this message tries whether they are back.
    pub(super) probes: ChildSet,
    reject_reason: Option<RejectReason>,
    unknown_reason: Option<UnknownReason>,
}

impl Answers {
    /// Before the first answer: `tried` are to answer, `probes` among them need not.
    pub(super) fn new(children: usize, tried: ChildSet, probes: ChildSet) -> Self {
        let skipped = ChildSet::all(children).without(tried);
        Self {
            acknowledged: ChildSet::default(),
            rejected: skipped,
            unknown: ChildSet::default(),
            pending: tried,
            probes,
            reject_reason: (!skipped.is_empty()).then_some(RejectReason::NotSent),
            unknown_reason: None,
        }
    }

    /// Takes one answer. False: this child has answered before.
    pub(super) fn take(&mut self, child: usize, outcome: Outcome) -> bool {
        if !self.pending.contains(child) {
            return false;
        }
        self.pending = self.pending.without(ChildSet::default().with(child));
        match outcome {
            Outcome::Acknowledged => self.acknowledged = self.acknowledged.with(child),
            Outcome::Rejected(reason) => {
                self.rejected = self.rejected.with(child);
                // A child's own reason says more than that another was not tried.
                if matches!(self.reject_reason, None | Some(RejectReason::NotSent)) {
                    self.reject_reason = Some(reason);
                }
            }
            Outcome::Unknown(reason) => {
                self.unknown = self.unknown.with(child);
                self.unknown_reason.get_or_insert(reason);
            }
        }
        true
    }

    fn children(&self) -> usize {
        self.acknowledged.and(self.rejected).and(self.unknown).and(self.pending).len()
    }

    /// Whether some children have the message and others do not, or may not.
    pub fn is_partial(&self) -> bool {
        !self.acknowledged.is_empty() && self.acknowledged.len() < self.children()
    }

    /// The outcome, once these answers decide it. Always decides when nothing is pending.
    pub(super) fn decide(&self, strategy: Strategy) -> Option<Outcome> {
        let children = self.children();
        let needed = strategy.needed(children);
        let awaited = match strategy {
            // A probe is as good as any child where all are needed.
            Strategy::FailFast => self.pending,
            Strategy::BestEffort | Strategy::Quorum => self.pending.without(self.probes),
        };
        if self.acknowledged.len() >= needed {
            let complete = strategy != Strategy::BestEffort || awaited.is_empty();
            return complete.then_some(Outcome::Acknowledged);
        }
        if self.acknowledged.len() + awaited.len() >= needed {
            return None;
        }
        // It cannot be acknowledged any more. Whether it is certainly nowhere may still be open.
        if self.acknowledged.is_empty() && self.unknown.is_empty() {
            return match (awaited.is_empty(), strategy) {
                (true, _) => Some(Outcome::Rejected(self.reject_reason.unwrap_or(RejectReason::Refused))),
                (false, Strategy::FailFast) => Some(Outcome::Unknown(UnknownReason::Partial)),
                (false, Strategy::BestEffort | Strategy::Quorum) => None,
            };
        }
        if self.acknowledged.is_empty() && awaited.is_empty() && self.rejected.is_empty() {
            return self.unknown_reason.map(Outcome::Unknown);
        }
        Some(Outcome::Unknown(UnknownReason::Partial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Outcome = Outcome::Acknowledged;
    const FULL: Outcome = Outcome::Rejected(RejectReason::Full);
    const LATE: Outcome = Outcome::Unknown(UnknownReason::TimedOut);
    const PARTIAL: Outcome = Outcome::Unknown(UnknownReason::Partial);

    /// The decision after each of `answers`, the first child's first.
    fn decisions(strategy: Strategy, children: usize, answers: &[Outcome]) -> Vec<Option<Outcome>> {
        let mut state = Answers::new(children, ChildSet::all(children), ChildSet::default());
        let step = |(child, outcome): (usize, &Outcome)| {
            assert!(state.take(child, *outcome));
            state.decide(strategy)
        };
        answers.iter().enumerate().map(step).collect()
    }

    #[test]
    fn fail_fast_needs_all_and_decides_at_the_first_failure() {
        let decide = |answers: &[Outcome]| decisions(Strategy::FailFast, 2, answers);
        assert_eq!(decide(&[ACK, ACK]), [None, Some(ACK)]);
        assert_eq!(decide(&[ACK, FULL]), [None, Some(PARTIAL)]);
        assert_eq!(decide(&[FULL]), [Some(PARTIAL)]);
        assert_eq!(decide(&[FULL, FULL])[1], Some(FULL));
        assert_eq!(decide(&[LATE, LATE])[1], Some(LATE));
    }

    #[test]
    fn best_effort_waits_for_all_and_needs_one() {
        let decide = |answers: &[Outcome]| decisions(Strategy::BestEffort, 2, answers);
        assert_eq!(decide(&[ACK, FULL]), [None, Some(ACK)]);
        assert_eq!(decide(&[FULL, ACK]), [None, Some(ACK)]);
        assert_eq!(decide(&[FULL, FULL]), [None, Some(FULL)]);
        assert_eq!(decide(&[FULL, LATE]), [None, Some(PARTIAL)]);
        assert_eq!(decide(&[LATE, LATE]), [None, Some(LATE)]);
    }

    #[test]
    fn quorum_decides_with_the_majority() {
        let decide = |answers: &[Outcome]| decisions(Strategy::Quorum, 3, answers);
        assert_eq!(decide(&[ACK, ACK]), [None, Some(ACK)]);
        assert_eq!(decide(&[FULL, ACK, ACK]), [None, None, Some(ACK)]);
        assert_eq!(decide(&[FULL, FULL, ACK]), [None, None, Some(PARTIAL)]);
        assert_eq!(decide(&[FULL, FULL, FULL]), [None, None, Some(FULL)]);
        assert_eq!(decide(&[ACK, FULL, FULL]), [None, None, Some(PARTIAL)]);
    }

    #[test]
    fn a_probe_is_not_waited_for() {
        let one = ChildSet::default().with(1);
        let mut answers = Answers::new(2, ChildSet::all(2), one);
        assert!(answers.take(0, ACK));
        assert_eq!(answers.decide(Strategy::BestEffort), Some(ACK));
        assert_eq!(answers.decide(Strategy::FailFast), None);
        assert!(answers.take(1, FULL) && !answers.take(1, ACK));
    }

    /// Whatever the answers and their order: when all have come there is an outcome, and it never claims
    /// more than is so.
    #[test]
    fn every_complete_set_of_answers_decides_and_claims_no_more_than_is_so() {
        for strategy in [Strategy::FailFast, Strategy::BestEffort, Strategy::Quorum] {
            for children in 2..=4 {
                for code in 0..81 {
                    let answers: Vec<_> = [1, 3, 9, 27][..children]
                        .iter()
                        .map(|digit| [ACK, FULL, LATE][code / digit % 3])
                        .collect();
                    let acks = answers.iter().filter(|answer| **answer == ACK).count();
                    let decided = decisions(strategy, children, &answers);
                    let outcome = decided.last().copied().flatten().expect("nothing is pending");
                    match outcome {
                        ACK => assert!(acks >= strategy.needed(children), "{strategy:?} {answers:?}"),
                        Outcome::Rejected(_) => assert!(answers.iter().all(|answer| *answer == FULL)),
                        Outcome::Unknown(_) => assert!(acks < strategy.needed(children)),
                    }
                }
            }
        }
    }
}
