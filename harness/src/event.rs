//! What a trial's process tells the runner while it works: one JSON object a line.

use serde::{Deserialize, Serialize};

/// Something the runner shows or records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The load begins; times in later events count from here.
    Started {
        /// Monotonic clock of this machine.
        at_ns: u64,
        /// How long the phases last by plan.
        planned_s: f64,
    },
    /// A phase begins.
    Phase {
        /// From the profile.
        name: String,
        /// Whether its figures count.
        measured: bool,
    },
    /// Several times a second.
    Progress(Snapshot),
    /// A shard of several waits for its cue ([`Order`]); said again and again until it comes.
    Waiting {
        /// The phase that is next; the number of phases when consumers receive what is outstanding.
        phase: usize,
        /// Where it stands.
        totals: Snapshot,
    },
    /// The load is over; consumers receive what is outstanding.
    Draining {
        /// Acknowledged and not yet received, over all groups.
        outstanding: u64,
    },
    /// Something a person should know.
    Warning {
        /// In a sentence.
        text: String,
    },
}

/// What the runner tells each of several shards, one JSON object a line on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// A phase begins, for all shards at once.
    Begin {
        /// Which, from 0.
        phase: usize,
        /// On the machine's monotonic clock.
        at_ns: u64,
    },
    /// Nothing more is expected.
    End {
        /// Though not everything has arrived.
        deadline_passed: bool,
    },
}

/// Where a trial stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Seconds since the start.
    pub elapsed_s: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages received, all groups.
    pub received: u64,
    /// Messages whose fate is unknown.
    #[serde(default)]
    pub unknown: u64,
    /// Acknowledged per second since the last snapshot.
    pub rate_per_s: f64,
    /// Response, recently.
    pub p95_us: Option<f64>,
}
