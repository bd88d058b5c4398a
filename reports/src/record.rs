//! The record of a run, `result.json`, format `queuebench.run/1`.
//!
//! Every duration carries its unit in the key. New keys are optional for readers, so a record of an earlier
//! minor version always loads; a record of another major version is refused with both versions named.
//! Latencies are recorded in nanoseconds (`histograms.hlog`) and stated in microseconds here.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::gate::GateResult;

mod capacity;
mod death;
mod delivery;
mod environment;
mod phase;
mod series;
mod subject;

pub use capacity::{Capacity, CapacityLimit, CapacitySearch, Probe, ProbeKind};
pub use death::Death;
pub use delivery::{Delivery, DeliveryVerdict, Promise};
pub use environment::{ContainerEngine, Environment};
pub use phase::{Latency, LoadVerdict, Model, Phase};
pub use series::{Series, Window};
pub use subject::{
    Backlog, Calibration, Durability, Fault, Interval, PhaseSummary, Provisioner, Resources, Skipped,
    Subject, Trial, Usage,
};

/// The `format` of records that this version writes.
pub const FORMAT: &str = "queuebench.run/1";

/// One run: all trials of all subjects, one folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Always [`FORMAT`] when written by this version.
    pub format: String,
    /// The name of the run's folder.
    pub id: String,
    /// UTC, RFC 3339.
    pub started_at: String,
    /// UTC, RFC 3339; absent while the run goes on or when it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The run was interrupted: what was measured is here, the rest is not.
    #[serde(default)]
    pub partial: bool,
    /// What was compared: `queues`, `pipeline`, `kv`, `cluster`.
    #[serde(default)]
    pub compared: String,
    /// The command line that repeats this run.
    pub command: String,
    /// Seed of payloads, keys, arrivals and trial order.
    pub seed: u64,
    /// The effective profile, as JSON of the TOML.
    pub profile: serde_json::Value,
    /// The machine.
    pub environment: Environment,
    /// One entry per subject, in the order of the command.
    pub subjects: Vec<Subject>,
    /// Paired comparisons between subjects.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// Subjects that were asked for and could not be started.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// What deserves doubt.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// What a search for the highest rate found, if that is what the run was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacitySearch>,
    /// What each gate found, if gates were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateResult>,
    /// The harness's own cost, measured against the null subject in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What the run proved.
    #[serde(default)]
    pub verdicts: Verdicts,
}

impl Run {
    /// The profile's name, for headings.
    pub fn profile_name(&self) -> &str {
        self.profile.get("name").and_then(serde_json::Value::as_str).unwrap_or("unnamed")
    }
}

/// Ratio of two subjects on one metric, paired by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// A key of [`PhaseSummary`], for instance `response_p95_us`.
    pub metric: String,
    /// The phase's name.
    pub phase: String,
    /// Subject in the numerator.
    pub a: String,
    /// Subject in the denominator.
    pub b: String,
    /// `a / b`, the median over rounds.
    pub ratio: f64,
    /// Bootstrap interval of the ratio; absent with fewer than three rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// What may be said of `a`.
    pub verdict: ComparisonVerdict,
}

/// What the interval of a ratio allows one to say of the first subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonVerdict {
    /// Better by more than the noise threshold.
    Better,
    /// Worse by more than the noise threshold.
    Worse,
    /// No difference could be shown.
    Same,
    /// Fewer than three rounds.
    NotEnoughData,
}

/// A reason to doubt a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stable, kebab-case: `durability-differs`, `generator-limited`, …
    pub code: String,
    /// The subject concerned, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// One or two sentences for a person.
    pub text: String,
}

/// What the run proved, over all subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// `kept` or `violated`; absent when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryVerdict>,
    /// Of a recorded history: `linearizable`, `violated`, `undecided`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// `passed` or `failed`, if gates were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// Free-form settings, in the order in which they were given.
pub type Settings = IndexMap<String, serde_json::Value>;
