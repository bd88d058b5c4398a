//! Gates: expressions over a record that a pipeline fails on.
//!
//! `subject.phase.metric OP value`, where subject and phase may be `*`:
//!
//! - `kafka.steady.response_p95_us < 5ms`
//! - `*.steady.throughput_per_s >= 2000`
//! - `*.delivery.lost == 0` (the ledger over all phases of a trial)
//! - `nats.steady.response_p95_us <= 1.1x baseline` (against another run)
//!
//! A gate that matches nothing fails with an error: it would otherwise pass for ever after a rename.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    record::{Delivery, Run, Subject},
    statistics::{Metric, Unit},
};

mod parse;
mod slo;

pub use parse::ParseGateError;
pub use slo::Slo;

/// A parsed gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    text: String,
    subject: Name,
    target: Target,
    operator: Operator,
    limit: Limit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Any,
    Exactly(String),
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == name,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Target {
    Phase(Name, Metric),
    Delivery(DeliveryCount),
}

/// A count of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryCount {
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
    Stray,
    Unknown,
    Rejected,
}

impl DeliveryCount {
    const ALL: [Self; 7] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Corrupted,
        Self::Stray,
        Self::Unknown,
        Self::Rejected,
    ];

    fn key(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Corrupted => "corrupted",
            Self::Stray => "stray",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
        }
    }

    fn of(self, delivery: &Delivery) -> u64 {
        match self {
            Self::Lost => delivery.lost,
            Self::Duplicated => delivery.duplicated,
            Self::Reordered => delivery.reordered,
            Self::Corrupted => delivery.corrupted,
            Self::Stray => delivery.stray,
            Self::Unknown => delivery.unknown,
            Self::Rejected => delivery.rejected,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Operator {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
            Self::Equal => (value - limit).abs() < f64::EPSILON,
            Self::NotEqual => (value - limit).abs() >= f64::EPSILON,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// In the record's unit.
    Value(f64),
    /// Times the baseline's figure.
    Baseline(f64),
}

/// What a gate found for one subject and phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// The gate as written.
    pub gate: String,
    /// Of which subject.
    pub subject: String,
    /// In which phase; `delivery` for the ledger.
    pub phase: String,
    /// Key of the metric.
    pub metric: String,
    /// What was measured; `None` when the subject has no such figure, which fails the gate.
    pub value: Option<f64>,
    /// What it was held against; `None` when the baseline has no such figure, which fails the gate.
    pub limit: Option<f64>,
    /// Whether it holds.
    pub holds: bool,
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.holds { "✓" } else { "✗" };
        let number = |value: Option<f64>| {
            value.map_or_else(|| "nothing".to_owned(), |value| crate::figures::significant(value, 4))
        };
        write!(
            f,
            "{sign} {}: {}.{}.{} is {}, held against {}",
            self.gate,
            self.subject,
            self.phase,
            self.metric,
            number(self.value),
            number(self.limit)
        )
    }
}

/// Why a gate could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// No subject and phase of the run is meant by it.
    #[error("gate \"{gate}\" matches nothing: there are the subjects {subjects} and the phases {phases}")]
    MatchesNothing {
        /// The gate as written.
        gate: String,
        /// What there is.
        subjects: String,
        /// What there is.
        phases: String,
    },
    /// It compares with a baseline and there is none.
    #[error("gate \"{gate}\" compares with a baseline; give one with --baseline RUN")]
    NoBaseline {
        /// The gate as written.
        gate: String,
    },
}

impl Gate {
    /// Whether a run of these subjects and measured phases has anything that is meant: to be asked before the
    /// run rather than after it.
    ///
    /// # Errors
    /// When it would match nothing.
    pub fn check_names(&self, subjects: &[&str], phases: &[&str]) -> Result<(), GateError> {
        let phase = match &self.target {
            Target::Delivery(_) => true,
            Target::Phase(name, _) => phases.iter().any(|phase| name.matches(phase)),
        };
        if phase && subjects.iter().any(|subject| self.subject.matches(subject)) {
            return Ok(());
        }
        Err(GateError::MatchesNothing {
            gate: self.text.clone(),
            subjects: subjects.join(", "),
            phases: phases.join(", "),
        })
    }

    /// Whether it compares with a baseline.
    pub fn needs_baseline(&self) -> bool {
        matches!(self.limit, Limit::Baseline(_))
    }

    /// Judges a run whose statistics are filled; one result for each subject and phase that is meant.
    ///
    /// # Errors
    /// When it matches nothing or lacks its baseline.
    pub fn evaluate(&self, run: &Run, baseline: Option<&Run>) -> Result<Vec<GateResult>, GateError> {
        if self.needs_baseline() && baseline.is_none() {
            return Err(GateError::NoBaseline { gate: self.text.clone() });
        }
        let subjects = run.subjects.iter().filter(|subject| self.subject.matches(&subject.name));
        let results: Vec<GateResult> = match &self.target {
            Target::Delivery(count) => subjects
                .map(|subject| {
                    self.judge(subject, "delivery", count.key(), baseline, |subject| ledger(subject, *count))
                })
                .collect(),
            Target::Phase(name, metric) => {
                let phases: Vec<String> = crate::statistics::measured_phases(run)
                    .into_iter()
                    .filter(|phase| name.matches(phase))
                    .collect();
                subjects
                    .flat_map(|subject| phases.iter().map(move |phase| (subject, phase)))
                    .map(|(subject, phase)| {
                        self.judge(subject, phase, metric.key(), baseline, |subject| {
                            Some(subject.summary.get(phase)?.get(metric.key())?.median)
                        })
                    })
                    .collect()
            }
        };
        if results.is_empty() {
            let names: Vec<&str> = run.subjects.iter().map(|subject| subject.name.as_str()).collect();
            return Err(GateError::MatchesNothing {
                gate: self.text.clone(),
                subjects: names.join(", "),
                phases: crate::statistics::measured_phases(run).join(", "),
            });
        }
        Ok(results)
    }

    fn judge(
        &self,
        subject: &Subject,
        phase: &str,
        metric: &str,
        baseline: Option<&Run>,
        figure: impl Fn(&Subject) -> Option<f64>,
    ) -> GateResult {
        let value = figure(subject);
        let limit = match self.limit {
            Limit::Value(limit) => Some(limit),
            Limit::Baseline(times) => baseline
                .and_then(|run| run.subjects.iter().find(|other| other.name == subject.name))
                .and_then(&figure)
                .map(|figure| figure * times),
        };
        let holds = match (value, limit) {
            (Some(value), Some(limit)) => self.operator.holds(value, limit),
            _ => false,
        };
        GateResult {
            gate: self.text.clone(),
            subject: subject.name.clone(),
            phase: phase.to_owned(),
            metric: metric.to_owned(),
            value,
            limit,
            holds,
        }
    }
}

impl FromStr for Gate {
    type Err = ParseGateError;

    fn from_str(text: &str) -> Result<Self, ParseGateError> {
        parse::gate(text)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Summed over trials; `None` of a subject that was not measured.
#[expect(clippy::cast_precision_loss, reason = "messages of one run")]
fn ledger(subject: &Subject, count: DeliveryCount) -> Option<f64> {
    let counts = subject.trials.iter().map(|trial| count.of(&trial.delivery));
    (!subject.trials.is_empty()).then(|| counts.sum::<u64>() as f64)
}

/// Judges several gates; all results, and whether all hold.
///
/// # Errors
/// The first gate that cannot be judged.
pub fn evaluate_all(
    gates: &[Gate],
    run: &Run,
    baseline: Option<&Run>,
) -> Result<(Vec<GateResult>, bool), GateError> {
    let mut results = Vec::new();
    for gate in gates {
        results.extend(gate.evaluate(run, baseline)?);
    }
    let hold = results.iter().all(|result| result.holds);
    Ok((results, hold))
}

/// Whether a unit may be written behind a value of this kind.
fn unit_factor(unit: Unit, word: &str) -> Option<f64> {
    let factor = match (unit, word) {
        (Unit::Microseconds, "ns") => 1e-3,
        (Unit::Microseconds, "us" | "µs" | "μs" | "") => 1.0,
        (Unit::Microseconds, "ms") => 1e3,
        (Unit::Microseconds, "s") => 1e6,
        (Unit::PerSecond, "" | "/s") | (Unit::Messages, "") | (Unit::Bytes, "" | "B") => 1.0,
        (Unit::PerSecond, "k/s" | "k") | (Unit::Messages, "k") => 1e3,
        (Unit::PerSecond, "M/s" | "M") | (Unit::Messages, "M") => 1e6,
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => 1_048_576.0,
        (Unit::Bytes, "GiB") => 1_073_741_824.0,
        _ => return None,
    };
    Some(factor)
}

fn unit_words(unit: Unit) -> &'static str {
    match unit {
        Unit::Microseconds => "ns, us, ms or s",
        Unit::PerSecond => "/s, k/s or M/s",
        Unit::Bytes => "B, KiB, MiB or GiB",
        Unit::Messages => "no unit, k or M",
    }
}

#[cfg(test)]
mod tests;
