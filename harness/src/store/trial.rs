//! One trial over a store, in this process: fill, load, read all, compare, judge.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use queuebench_reports::record::DeliveryVerdict;
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::etcd::EtcdClient;
use super::http::HttpClient;
use super::recorder::Recorder;
use super::subject::{Store, names};
use super::{Api, StoreConfig, StoreOperation, check};
use crate::consistency::history::{self, Entry};
use crate::consistency::{self, STEPS_MAX, Verdict};
use crate::event::Event;
use crate::operation;
use crate::plan::Plan;
use crate::trial::{TrialOutcome, TrialSpec};

/// What a trial over a store leaves beside its record.
pub const HISTORY_FILE: &str = "history.jsonl";
/// Keys that are filled before the load at most; with more, reads may find nothing.
const FILL_MAX: usize = 100_000;

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreResult {
    /// The worst of all that was judged.
    pub consistency: Verdict,
    /// Operations in the history.
    pub operations: usize,
    /// Keys in it.
    pub keys: usize,
    /// Why it is not `linearizable`.
    pub findings: Vec<String>,
}

/// Runs a trial; the history goes to `out`.
///
/// # Errors
/// When the store cannot be used at all.
pub fn run(
    config: &StoreConfig,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    out: &Path,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> anyhow::Result<(TrialOutcome, StoreResult)> {
    match config.api {
        Api::Kv => with_client::<HttpClient>(config, plan, spec, out, stop, events),
        Api::Etcd => with_client::<EtcdClient>(config, plan, spec, out, stop, events),
    }
}

fn with_client<C: Client>(
    config: &StoreConfig,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    out: &Path,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> anyhow::Result<(TrialOutcome, StoreResult)> {
    let phases = &spec.profile.phases;
    let operations = phases
        .iter()
        .map(|phase| StoreOperation::of_phase(phase.operation.as_deref()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::msg)?;
    let names = names(config, plan);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let aside = |work| LocalSet::new().block_on(&runtime, work);

    let reads = operations.iter().any(|operation| *operation != StoreOperation::Put);
    // Another shard of the trial fills them.
    let filled = if reads && names.len() <= FILL_MAX && spec.shard.index == 0 {
        aside(Box::pin(check::fill::<C>(config, &names)) as Pending<'_>)
            .map_err(|reason| anyhow!("filling the keys: {reason}"))?
    } else {
        Recorder::default()
    };
    let store = Arc::new(Store::<C> {
        config: config.clone(),
        plan: Arc::clone(plan),
        operations,
        client: PhantomData,
    });
    let outcome = operation::run(&store, plan, spec, stop, events)?;
    let (mut trial, leaves) = (outcome.trial, outcome.leaves);

    let mut findings = Vec::new();
    let written: BTreeSet<u32> =
        leaves.iter().chain([&filled]).flat_map(|l| &l.records).map(|record| record.key).collect();
    let read: Vec<String> = written.iter().map(|&key| names[key as usize].clone()).collect();
    let last = match aside(Box::pin(check::read_all::<C>(config, &read)) as Pending<'_>) {
        Ok(last) => last,
        Err(reason) => {
            findings.push(format!("not every key could be read at the end: {reason}"));
            Recorder::default()
        }
    };
    let equal = LocalSet::new().block_on(&runtime, check::equal_states::<C>(config));

    let dropped: u64 = leaves.iter().map(|l| l.dropped).sum();
    let mut entries = told(&[filled], &names, 1 << 32);
    entries.extend(told(&leaves, &names, 0));
    entries.extend(told(&[last], &read, 2 << 32));
    entries.sort_by_key(|entry| entry.start);
    let path = out.join(HISTORY_FILE);
    std::fs::create_dir_all(out)
        .and_then(|()| history::write(&path, &entries))
        .with_context(|| format!("cannot write {}", path.display()))?;

    let judged = consistency::judge(&entries, STEPS_MAX);
    let mut verdict = judged.verdict;
    if spec.shard.of > 1 {
        verdict = verdict.max(Verdict::Undecided);
        findings.push("each shard saw a part of the history only".to_owned());
    }
    if dropped > 0 {
        verdict = Verdict::Undecided;
        findings.push(format!("{dropped} operations were too many to be recorded"));
    } else {
        findings.extend(judged.findings);
    }
    match equal {
        Ok(()) => {}
        Err(check::Unequal::Differ(text)) => {
            verdict = Verdict::Violated;
            findings.push(text);
        }
        Err(check::Unequal::Unknown(text)) => findings.push(text),
    }
    if !findings.is_empty() {
        verdict = verdict.max(Verdict::Undecided);
    }
    judge(&mut trial, verdict, judged.lost, &findings);
    let result = StoreResult { consistency: verdict, operations: entries.len(), keys: judged.keys, findings };
    Ok((trial, result))
}

type Pending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Recorder, String>> + 'a>>;

fn judge(trial: &mut TrialOutcome, verdict: Verdict, lost: u64, findings: &[String]) {
    let delivery = &mut trial.trial.delivery;
    delivery.promise.delivery = "linearizable".to_owned();
    delivery.lost = lost;
    if verdict == Verdict::Violated {
        delivery.verdict = DeliveryVerdict::Violated;
        delivery.violations = findings.to_vec();
    }
}

/// The lines of what some workers did; their processes are numbered from `first`.
fn told(workers: &[Recorder], names: &[String], first: u64) -> Vec<Entry> {
    let of = |(worker, recorder): (u64, &Recorder)| {
        let process = move |lane: u32| first + (worker << 24) + u64::from(lane);
        recorder
            .records
            .iter()
            .map(|record| record.entry(process(record.lane), &names[record.key as usize]))
            .collect::<Vec<_>>()
    };
    (0_u64..).zip(workers).flat_map(of).collect()
}
