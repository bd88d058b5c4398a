//! Figures of nodes that were killed, over all trials of a subject.

use super::{bootstrap, interval};
use crate::record::{Death, Interval, Run, Subject};

/// A figure of a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeathFigure {
    /// Until the first of the others knew.
    Detected,
    /// Until all the others agreed.
    Agreed,
    /// From the restart until all agreed.
    Returned,
    /// Partitions whose nodes changed.
    Moved,
}

impl DeathFigure {
    /// In the order of what happens.
    pub(crate) const ALL: [Self; 4] = [Self::Detected, Self::Agreed, Self::Returned, Self::Moved];

    /// As part of names.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Agreed => "agreed",
            Self::Returned => "returned",
            Self::Moved => "moved",
        }
    }

    /// In seconds, or a count; `None` when it did not come about.
    pub(crate) fn of(self, death: &Death) -> Option<f64> {
        match self {
            Self::Detected => death.detected_s,
            Self::Agreed => death.agreed_s,
            Self::Returned => death.returned_s,
            Self::Moved => death.agreed_s.map(|_| f64::from(death.partitions_moved)),
        }
    }
}

/// Every death of a subject, with the round in which it was, in order.
pub(crate) fn deaths(subject: &Subject) -> impl Iterator<Item = (u32, &Death)> {
    subject.trials.iter().flat_map(|trial| trial.deaths.iter().map(|death| (trial.index, death)))
}

/// A figure's median over all deaths of a subject, those of followers and of leaders alike.
pub(crate) fn over_deaths(run: &Run, subject: &Subject, figure: DeathFigure) -> Option<Interval> {
    let values: Vec<f64> = deaths(subject).filter_map(|(_, death)| figure.of(death)).collect();
    interval(&values, bootstrap::seed_of(run.seed, &[&subject.name, "deaths", figure.key()]))
}
