//! What a search for the highest rate found: where an objective held, where it broke, and why.

use serde::{Deserialize, Serialize};

use super::{Latency, LoadVerdict};

/// A search for the highest rate that holds an objective, over all subjects of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacitySearch {
    /// The conditions, as given; all of them have to hold, and every message has to arrive.
    pub slo: Vec<String>,
    /// Lowest and highest rate that may be tried.
    pub bounds_per_s: [f64; 2],
    /// Relative distance of the found rate to the lowest one known to fail.
    pub precision: f64,
    /// Trials of which the majority has to hold before a rate counts.
    pub confirmations: u32,
    /// In the order of the command.
    pub subjects: Vec<Capacity>,
}

/// What was found for one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Its name.
    pub subject: String,
    /// The highest rate that held and was confirmed; absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_per_s: Option<f64>,
    /// Why it is not higher.
    pub limited_by: CapacityLimit,
    /// Every trial of the search, in order of time.
    pub probes: Vec<Probe>,
}

/// Why a found rate is not higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityLimit {
    /// The objective broke above it.
    Slo,
    /// The harness could not offer more: the subject may carry more.
    Harness,
    /// No higher rate was allowed: the subject may carry more.
    UpperBound,
    /// The time for the search was up: the subject may carry more.
    Time,
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// What it was for.
    pub kind: ProbeKind,
    /// What the plan wanted.
    pub offered_per_s: f64,
    /// What was acknowledged.
    pub achieved_per_s: f64,
    /// Whether the plan's load was offered.
    pub load_verdict: LoadVerdict,
    /// Due time to acknowledgement.
    pub response_us: Latency,
    /// Due time to the consumer's hands.
    pub end_to_end_us: Latency,
    /// Acknowledged and never received.
    pub lost: u64,
    /// Each broken promise in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
    /// Whether the objective held.
    pub holds: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a trial of a search was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// Towards a rate that fails.
    Growth,
    /// Between a rate that holds and one that fails.
    Bisection,
    /// Again at the rate that was found.
    Confirmation,
}
