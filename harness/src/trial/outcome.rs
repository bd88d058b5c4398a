//! What a trial, or one shard of it, leaves behind.

use queuebench_reports::histograms::Histograms;
use queuebench_reports::record::Trial;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;

/// The record of a trial with what is needed to merge shards: the ledger and the histograms.
#[derive(Debug)]
pub struct TrialOutcome {
    /// The record; the subject's resources are the runner's to fill in.
    pub trial: Trial,
    /// By phase and kind.
    pub histograms: Histograms,
    /// Both sides of every message.
    pub ledger: Ledger,
    /// When the load began, on the machine's monotonic clock.
    pub started_ns: u64,
    /// Ended by a stop signal.
    pub partial: bool,
}

/// The part of an outcome that a shard writes as `trial.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The shard's record.
    pub trial: Trial,
    /// Its ledger.
    pub ledger: Ledger,
    /// When the load began, on the machine's monotonic clock.
    pub started_ns: u64,
    /// Ended by a stop signal.
    pub partial: bool,
}

impl TrialOutcome {
    /// Splits off what goes to `trial.json`.
    pub fn into_shard_record(self) -> (ShardRecord, Histograms) {
        let Self { trial, histograms, ledger, started_ns, partial } = self;
        (ShardRecord { trial, ledger, started_ns, partial }, histograms)
    }
}
