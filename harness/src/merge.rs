//! Joins what the shards of one trial left into one result.
//!
//! Ledgers join before they are judged, so a message that one shard sent and another received is found;
//! phases, histograms and series join as the shards of a run do
//! ([`queuebench_reports::merge`]).

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use indexmap::IndexMap;
use queuebench_reports::histograms::Histograms;
use queuebench_reports::record::{self, Provisioner, Run, Subject, Verdicts};

use crate::shard::{self, ShardResult};

/// Reads the folders of all shards of a trial and joins them.
///
/// # Errors
/// Names the folder that cannot be read, the shard that is missing or twice, or what differs.
pub fn merge(folders: &[PathBuf]) -> anyhow::Result<(ShardResult, Histograms)> {
    let mut shards = Vec::new();
    for folder in folders {
        shards.push(shard::read(folder).with_context(|| format!("in {}", folder.display()))?);
    }
    shards.sort_by_key(|(result, _)| result.shard.index);
    check_complete(&shards)?;
    let runs = shards.iter().map(|(result, histograms)| (as_run(result), histograms.clone())).collect();
    let (mut run, histograms) = queuebench_reports::merge::merge(runs)?;
    let mut trial = run.subjects.pop().and_then(|mut s| s.trials.pop()).context("no shard was given")?;

    let mut results = shards.into_iter().map(|(result, _)| result);
    let mut whole = results.next().context("no shard was given")?;
    for other in results {
        whole.record.ledger.merge(other.record.ledger).map_err(anyhow::Error::msg)?;
        whole.record.started_ns = whole.record.started_ns.min(other.record.started_ns);
        whole.record.partial |= other.record.partial;
    }
    // What was operated on has no ledger: its counts are summed already.
    if let Some(promise) = whole.promise {
        trial.delivery = whole.record.ledger.judge(promise, whole.groups);
    }
    whole.record.trial = trial;
    whole.shard = crate::plan::Shard::WHOLE;
    Ok((whole, histograms))
}

fn check_complete(shards: &[(ShardResult, Histograms)]) -> anyhow::Result<()> {
    let Some((first, _)) = shards.first() else { bail!("no shard was given") };
    for (place, (result, _)) in (0_u16..).zip(shards) {
        if result.shard.of != first.shard.of || result.trial_id != first.trial_id {
            bail!("shard {} is of another trial than shard {}", result.shard.index, first.shard.index);
        }
        if result.shard.index != place {
            bail!("shard {place} of {} is missing or another one was given twice", first.shard.of);
        }
    }
    if shards.len() != usize::from(first.shard.of) {
        bail!("{} shards of {} were given", shards.len(), first.shard.of);
    }
    Ok(())
}

/// The run of a single trial.
fn as_run(result: &ShardResult) -> Run {
    Run {
        format: record::FORMAT.to_owned(),
        id: format!("{:016x}", result.trial_id),
        started_at: String::new(),
        finished_at: None,
        partial: result.record.partial,
        compared: String::new(),
        command: String::new(),
        seed: 0,
        profile: serde_json::Value::Null,
        environment: record::Environment::default(),
        subjects: vec![Subject {
            name: result.subject.clone(),
            backend: String::new(),
            version: String::new(),
            provisioner: Provisioner::External,
            durability: result.durability,
            settings: record::Settings::new(),
            trials: vec![result.record.trial.clone()],
            summary: IndexMap::new(),
        }],
        comparisons: Vec::new(),
        skipped: Vec::new(),
        warnings: Vec::new(),
        capacity: None,
        gates: Vec::new(),
        calibration: None,
        verdicts: Verdicts::default(),
    }
}
