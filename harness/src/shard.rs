//! One shard of one trial, as a process of its own.
//!
//! It reads a [`ShardSpec`], runs its part of the plan, writes events as JSON lines to standard output, and
//! leaves `trial.json` (record and ledger), `histograms.hlog` and nothing else in its folder. It knows of no
//! other shard: an existing scheduler can start many, and [`merge`](crate::merge) joins what they leave.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use queuebench_reports::histograms::Histograms;
use queuebench_reports::record::Durability;
use queuebench_system::queue::{self, Queue};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, ClusterConfig};
use crate::event::{Event, Order};
use crate::ledger::Ledger;
use crate::plan::{Plan, Shard};
use crate::profile::{MessageIds, Profile};
use crate::store::{self, StoreConfig, StoreResult};
use crate::subject::{self, SubjectConfig, Task};
use crate::trial::{self, ShardRecord, TrialError, TrialOutcome, TrialSpec};

/// All that a shard needs to know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSpec {
    /// Whose trial.
    pub subject: String,
    /// Its queue's settings, as [`SubjectConfig`] reads them.
    pub config: serde_json::Value,
    /// The load.
    pub profile: Profile,
    /// Of payloads, keys and arrivals.
    pub seed: u64,
    /// The round, from 0.
    pub index: u32,
    /// Place in the order of the round, from 0.
    pub position: u32,
    /// In every message.
    pub trial_id: u64,
    /// Whether messages carry ids.
    pub message_ids: MessageIds,
    /// Whether the subject runs inside the shard's process.
    pub embedded: bool,
}

/// What a shard leaves as `trial.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardResult {
    /// Which part of the plan.
    pub shard: Shard,
    /// In every message of the trial.
    pub trial_id: u64,
    /// Whose trial.
    pub subject: String,
    /// What the queue promises; nothing for a subject that is operated on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<queue::Promise>,
    /// What the history of a store proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreResult>,
    /// Consumer groups, each of which owes every message.
    pub groups: u16,
    /// The record and the ledger.
    pub record: ShardRecord,
    /// What the queue says its acknowledgements survive.
    pub durability: Durability,
    /// Settings quoted from the server.
    pub server_settings: std::collections::BTreeMap<String, String>,
}

/// The names of what a shard leaves.
pub const RECORD_FILE: &str = "trial.json";
/// See [`RECORD_FILE`].
pub const HISTOGRAMS_FILE: &str = "histograms.hlog";

/// How long connecting, closing and removing may take each.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Runs a shard in this process: events to standard output, results to `out`. With `orders`, phases begin and
/// the trial ends when a conductor says so; without, the shard goes by its own counts.
///
/// # Errors
/// When the subject cannot be used or the folder cannot be written.
pub fn run(
    spec: ShardSpec,
    shard: Shard,
    out: &Path,
    orders: Option<mpsc::Receiver<Order>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let profile = Arc::new(spec.profile);
    let plan = Arc::new(Plan::new(&profile, spec.seed, shard)?);
    let trial = TrialSpec {
        subject: spec.subject.clone(),
        index: spec.index,
        position: spec.position,
        profile,
        seed: spec.seed,
        shard,
        trial_id: spec.trial_id,
        message_ids: spec.message_ids,
        embedded: spec.embedded,
    };
    if let Some(config) = spec.config.get("store") {
        let config = serde_json::from_value(config.clone()).context("`config` does not describe a store")?;
        return over_store(&config, &plan, &trial, out, stop);
    }
    if let Some(config) = spec.config.get("cluster") {
        let config =
            serde_json::from_value(config.clone()).context("`config` does not describe a cluster")?;
        return over_cluster(&config, &plan, &trial, out, stop);
    }
    let config: SubjectConfig =
        serde_json::from_value(spec.config).context("`config` does not describe a subject")?;
    // Connections that belong to the queue rather than to a producer or consumer live here.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("queue")
        .enable_all()
        .build()?;
    let task = Pass { plan, runtime: &runtime, orders, stop, spec: trial };
    let workload = &task.spec.profile.workload;
    let (trial_id, groups, topics) = (spec.trial_id, workload.groups, workload.topics);
    let has_keys = workload.has_keys();
    let (outcome, promise, server_settings) =
        subject::with_queues(&spec.subject, &config, topics, &runtime, task)??;
    let promise = Ledger::promise_to(has_keys, promise);
    let (record, histograms) = outcome.into_shard_record();
    let durability = match promise.durability {
        queue::Durability::Volatile => Durability::Volatile,
        queue::Durability::ProcessCrash => Durability::ProcessCrash,
        queue::Durability::PowerLoss => Durability::PowerLoss,
    };
    let result = ShardResult {
        shard,
        trial_id,
        subject: spec.subject,
        promise: Some(promise),
        store: None,
        groups,
        record,
        durability,
        server_settings,
    };
    write(out, &result, &histograms)?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// A trial over a store. Its acknowledgements survive the loss of power: both stores flush before they
/// answer.
fn over_store(
    config: &StoreConfig,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    out: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (outcome, store) = store::run(config, plan, spec, out, stop, &mut |event| emit(&event))?;
    write_operated(outcome, spec, Some(store), out)
}

/// A trial over a cluster, whose log is flushed as a store's is.
fn over_cluster(
    config: &ClusterConfig,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    out: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let outcome = cluster::run(config, plan, spec, stop, &mut |event| emit(&event))?;
    write_operated(outcome, spec, None, out)
}

/// Leaves what was operated on rather than published to.
fn write_operated(
    outcome: TrialOutcome,
    spec: &TrialSpec,
    store: Option<StoreResult>,
    out: &Path,
) -> anyhow::Result<()> {
    let (record, histograms) = outcome.into_shard_record();
    let result = ShardResult {
        shard: spec.shard,
        trial_id: spec.trial_id,
        subject: spec.subject.clone(),
        promise: None,
        store,
        groups: 0,
        record,
        durability: Durability::PowerLoss,
        server_settings: Settings::new(),
    };
    write(out, &result, &histograms)
}

/// A trial over whichever queue was opened.
struct Pass<'a> {
    plan: Arc<Plan>,
    runtime: &'a tokio::runtime::Runtime,
    orders: Option<mpsc::Receiver<Order>>,
    stop: &'a CancellationToken,
    spec: TrialSpec,
}

type Settings = std::collections::BTreeMap<String, String>;

impl Task for Pass<'_> {
    type Output = Result<(TrialOutcome, queue::Promise, Settings), TrialError>;

    fn run<Q: Queue>(self, topics: Vec<Arc<Q>>) -> Self::Output {
        let mut tell = |event: Event| emit(&event);
        let outcome = trial::run_topics(&topics, &self.plan, &self.spec, self.stop, self.orders, &mut tell);
        let settings = self.runtime.block_on(async {
            // The settings of all topics are the same but for their names.
            let settings = tokio::time::timeout(CLOSE_DEADLINE, topics[0].effective_settings()).await;
            for warning in join_all(topics.iter().map(end)).await.into_iter().flatten() {
                emit(&Event::Warning { text: warning });
            }
            settings
        });
        let settings = match settings {
            Ok(Ok(settings)) => settings,
            Ok(Err(error)) => {
                emit(&Event::Warning { text: format!("the server does not tell its settings: {error}") });
                Settings::new()
            }
            Err(_) => Settings::new(),
        };
        Ok((outcome?, topics[0].promise(), settings))
    }
}

/// Closes a queue and removes what the trial created. Results are in hand: what fails here is told, and does
/// not undo them.
async fn end<Q: Queue>(queue: &Arc<Q>) -> Vec<String> {
    let mut failed = Vec::new();
    if let Err(error) = queue.close(CLOSE_DEADLINE).await {
        failed.push(format!("closing: {error}"));
    }
    match tokio::time::timeout(CLOSE_DEADLINE, queue.remove()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failed.push(format!("removing what the trial created: {error}")),
        Err(_) => failed.push("removing what the trial created took too long".to_owned()),
    }
    failed
}

/// One event to the runner. A runner that is gone is noticed by its death signal, not here.
fn emit(event: &Event) {
    let mut out = std::io::stdout().lock();
    if let Ok(line) = serde_json::to_string(event) {
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Writes what a shard leaves.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(out: &Path, result: &ShardResult, histograms: &Histograms) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let log = histograms.to_hlog(jiff::Timestamp::now())?;
    replace(&out.join(HISTOGRAMS_FILE), log.as_bytes())?;
    // Written last: whoever finds it finds all.
    replace(&out.join(RECORD_FILE), &serde_json::to_vec(result)?)
}

fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let temporary: PathBuf = path.with_extension("partial");
    std::fs::write(&temporary, content)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads what a shard left.
///
/// # Errors
/// Names the file that is missing or malformed.
pub fn read(folder: &Path) -> anyhow::Result<(ShardResult, Histograms)> {
    let path = folder.join(RECORD_FILE);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let result = serde_json::from_slice(&text).with_context(|| format!("{} is malformed", path.display()))?;
    let path = folder.join(HISTOGRAMS_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let histograms =
        Histograms::from_hlog(&text).with_context(|| format!("{} is malformed", path.display()))?;
    Ok((result, histograms))
}
