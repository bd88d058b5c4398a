//! One subject: its settings, its trials, its summary.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Death, Delivery, Phase, Series, Settings};

/// One system under comparison with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Unique in the run.
    pub name: String,
    /// Kind of queue or store.
    pub backend: String,
    /// As the server states it.
    pub version: String,
    /// How it was started.
    pub provisioner: Provisioner,
    /// What its acknowledgement survives.
    pub durability: Durability,
    /// Effective settings; those under `server.` are quoted from the server.
    pub settings: Settings,
    /// In the order of rounds.
    pub trials: Vec<Trial>,
    /// Per measured phase, over trials.
    #[serde(default)]
    pub summary: IndexMap<String, PhaseSummary>,
}

/// Metric name (`throughput_per_s`, `response_p95_us`, …) to its median and interval.
pub type PhaseSummary = IndexMap<String, Interval>;

/// A median over trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Over trials.
    pub median: f64,
    /// Bootstrap, 95 %; absent with fewer than three trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// How many trials it rests on.
    pub trials: u32,
}

/// One pass of the profile over one subject, in a process of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The round, from 0; comparisons pair equal indices.
    pub index: u32,
    /// Place in the order of the round, from 0.
    pub position: u32,
    /// In order of time.
    pub phases: Vec<Phase>,
    /// What the ledger proved.
    pub delivery: Delivery,
    /// What it cost.
    pub resources: Resources,
    /// What was broken and when.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Over time.
    #[serde(default)]
    pub series: Series,
    /// Backlog phases only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Nodes of a cluster that were killed, and what the others made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deaths: Vec<Death>,
}

/// What a backlog cost to build and to drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// Messages waiting when the consumers started.
    pub messages: u64,
    /// Time to build it.
    pub build_s: f64,
    /// Messages received per second from the consumers' start until parity.
    pub drain_per_s: f64,
    /// From the consumers' start until nothing but the live load was outstanding.
    pub time_to_parity_s: f64,
}

/// CPU, memory and I/O of a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// The subject's processes; zeros for an embedded or external one, see `subject_observed`.
    pub subject: Usage,
    /// The trial's own process; for an embedded subject it contains the subject.
    pub harness: Usage,
    /// Whether the subject's processes could be watched from here.
    pub subject_observed: bool,
}

/// CPU, memory and I/O of a group of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system, core-seconds.
    pub cpu_s: f64,
    /// `cpu_s` per acknowledged message.
    pub cpu_us_per_message: f64,
    /// Highest resident memory seen.
    pub rss_peak_bytes: u64,
    /// Written to block devices.
    pub disk_written_bytes: u64,
    /// Sent and received over sockets, if it could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes: Option<u64>,
}

/// Something broken on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// `kill`, `pause`, `restart`, …
    pub kind: String,
    /// What it was done to.
    pub target: String,
    /// Seconds since the trial's start.
    pub start_s: f64,
    /// When it was undone, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_s: Option<f64>,
}

/// How a subject was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioner {
    /// Inside the harness's process.
    Embedded,
    /// In a container.
    Docker,
    /// As a child process.
    Native,
    /// By somebody else, at a given address.
    External,
}

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Nothing.
    Volatile,
    /// The death of the server process.
    ProcessCrash,
    /// The loss of power.
    PowerLoss,
}

/// A subject that was asked for and could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub subject: String,
    /// What was tried, and why it failed.
    pub reason: String,
}

/// The harness's own cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Rate offered to the null subject.
    pub offered_per_s: f64,
    /// Due to actual send.
    pub schedule_lag_p50_us: f64,
    /// Due to actual send.
    pub schedule_lag_p99_us: f64,
    /// CPU per message of pacer, producer, ledger, recorder and consumer.
    pub cpu_us_per_message: f64,
    /// Closed model, messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_per_s: Option<f64>,
}
