//! A run: all trials of all subjects, into one folder.
//!
//! Servers are started once and serve all trials; every trial is a fresh process
//! ([`shard`](crate::shard)) over a fresh stream or topic. Trials of the subjects are interleaved, in an
//! order that rotates from round to round. The record is written after every trial, so a run that is killed
//! leaves what it measured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use queuebench_reports::folder::RunFolder;
use queuebench_reports::histograms::Histograms;
use queuebench_reports::record::{self, Run, Skipped, Subject, Warning};
use queuebench_testcontainers::Via;
use tokio_util::sync::CancellationToken;

use crate::cluster::ClusterConfig;
use crate::consistency::Verdict;
use crate::plan::mix;
use crate::profile::{Fault, Profile};
use crate::subject::{Backend, SubjectConfig, SubjectRequest, configure};
use crate::ui::Ui;

mod calibrate;
mod capacity;
mod conductor;
mod deaths;
mod ensemble;
pub mod environment;
mod gates;
mod growth;
mod nodes;
mod pass;
mod process;
mod sampler;
mod servers;
mod services;
mod timeline;

pub use capacity::CapacityTask;
use ensemble::Finished;
pub use ensemble::ShardFailure;
pub use gates::Gates;
use pass::Pass;
use servers::Servers;
pub use timeline::TimelineError;

/// What is done with the subjects.
#[derive(Clone, Debug)]
pub enum Task {
    /// The profile's trials, round by round.
    Rounds,
    /// A search for the highest rate that holds an objective.
    Capacity(CapacityTask),
}

/// What to run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// What is done with the subjects.
    pub task: Task,
    /// What the run is held against when it is done.
    pub gates: Gates,
    /// `queues`, or what else was compared.
    pub compared: String,
    /// In the order of the command.
    pub subjects: Vec<SubjectRequest>,
    /// The load.
    pub profile: Profile,
    /// Of payloads, keys, arrivals and trial order.
    pub seed: u64,
    /// How servers may be started.
    pub via: Via,
    /// Subjects that must not be skipped.
    pub require: Vec<String>,
    /// Where run folders go.
    pub out: PathBuf,
    /// The command line that repeats it.
    pub command: String,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunReport {
    /// The record.
    pub run: Run,
    /// Where it is.
    pub folder: PathBuf,
    /// Ended by a stop signal.
    pub interrupted: bool,
    /// Trials that gave no result, each in a sentence.
    pub failures: Vec<String>,
    /// Required subjects that could not be started.
    pub missing: Vec<Skipped>,
}

impl RunReport {
    /// Whether a search, if that is what it was, found a rate for every subject.
    pub fn objective_held(&self) -> bool {
        let mut searched = self.run.capacity.iter().flat_map(|search| &search.subjects);
        searched.all(|subject| subject.highest_per_s.is_some())
    }
}

/// How long a server may take to stop at the end.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Runs all trials and draws the report.
///
/// # Errors
/// When the folder cannot be written. A subject that cannot be started is skipped and listed; a trial that
/// fails is listed; neither is an error here.
pub async fn run(spec: RunSpec, ui: &Ui, stop: &CancellationToken) -> anyhow::Result<RunReport> {
    let started_at = jiff::Timestamp::now();
    let short_id = format!("{:06x}", (uuid_seed() ^ spec.seed) & 0xff_ffff);
    let id = RunFolder::id_of(started_at, &spec.profile.name, &short_id);
    let folder = RunFolder::create(&spec.out, &id)?;
    ui.log_to(folder.log_file()?);
    let mut work = Work {
        record: Run {
            format: record::FORMAT.to_owned(),
            id: id.clone(),
            started_at: started_at.to_string(),
            finished_at: None,
            partial: true,
            compared: spec.compared.clone(),
            command: spec.command.clone(),
            seed: spec.seed,
            profile: serde_json::to_value(&spec.profile)?,
            environment: environment::gather(&spec.out),
            subjects: Vec::new(),
            comparisons: Vec::new(),
            skipped: Vec::new(),
            warnings: Vec::new(),
            capacity: None,
            gates: Vec::new(),
            calibration: None,
            verdicts: record::Verdicts::default(),
        },
        histograms: Histograms::default(),
        failures: Vec::new(),
        short_id,
        started_at,
        folder,
        spec,
    };
    let mut servers = Servers::new(work.spec.via, &work.short_id, work.folder.path());
    let result = work.trials(&mut servers, ui, stop).await;
    // Whatever happened, nothing that was started stays.
    servers.stop(STOP_DEADLINE, ui).await;
    result?;
    work.finish(ui, stop.is_cancelled())
}

/// A run under way.
struct Work {
    spec: RunSpec,
    record: Run,
    histograms: Histograms,
    failures: Vec<String>,
    short_id: String,
    started_at: jiff::Timestamp,
    folder: RunFolder,
}

impl Work {
    async fn trials(
        &mut self,
        servers: &mut Servers,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let requests = self.start_subjects(servers, ui, stop).await?;
        if self.required_missing().is_empty() && !requests.is_empty() && !stop.is_cancelled() {
            match calibrate::calibrate(self.folder.path(), self.spec.seed, ui, stop).await {
                Ok(calibration) => self.record.calibration = calibration,
                Err(failure) => self.failures.push(format!("calibration: {failure:#}")),
            }
            match self.spec.task.clone() {
                Task::Rounds => self.rounds(&requests, servers, ui, stop).await?,
                Task::Capacity(task) => self.search(&task, &requests, servers, ui, stop).await?,
            }
        }
        Ok(())
    }

    /// Starts the servers of every subject; lists those that cannot be had.
    async fn start_subjects(
        &mut self,
        servers: &mut Servers,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<SubjectRequest>> {
        let mut ready = Vec::new();
        for request in self.spec.subjects.clone() {
            match servers.start_for(&request, ui, stop).await {
                Ok(()) => {}
                Err(reason) => {
                    ui.say(&format!("skipping {}: {reason}", request.name));
                    self.record.skipped.push(Skipped { subject: request.name, reason });
                    continue;
                }
            }
            // Wrong settings are found before the first trial.
            let config = configure(&request, &self.spec.profile, servers.addresses(&request), "probe")?;
            self.record.subjects.push(Subject {
                name: request.name.clone(),
                backend: request.backend.name().to_owned(),
                version: servers.version(&request),
                provisioner: servers.provisioner(&request),
                durability: record::Durability::Volatile,
                settings: visible_settings(&config),
                trials: Vec::new(),
                summary: indexmap::IndexMap::default(),
            });
            self.warn_of_faults_left_out(&request, servers);
            self.warn_of_one_shard(&request);
            ready.push(request);
        }
        Ok(ready)
    }

    /// A queue inside a process cannot be shared by several.
    fn warn_of_one_shard(&mut self, request: &SubjectRequest) {
        let shards = self.spec.profile.shards;
        if shards > 1 && request.backend.is_embedded() {
            self.record.warnings.push(Warning {
                code: "one-shard-only".to_owned(),
                subject: Some(request.name.clone()),
                text: format!(
                    "{} lives in its trial's process, so it was loaded by one shard where the others were by \
                     {shards}, each with all of the profile's producers and consumers.",
                    request.name
                ),
            });
        }
    }

    /// A fault can only hit a server that we started.
    fn warn_of_faults_left_out(&mut self, request: &SubjectRequest, servers: &Servers) {
        let breakable = servers.breakable(request);
        let faults = &self.spec.profile.faults;
        let is_cluster = request.backend == Backend::Cluster;
        let hits = |fault: &&Fault| {
            breakable.iter().any(|s| fault.hits(s.backend()))
                || is_cluster && fault.cluster_target().is_some()
        };
        let left_out = faults.iter().filter(|fault| !hits(fault)).count();
        if left_out > 0 {
            self.record.warnings.push(Warning {
                code: "fault-not-applied".to_owned(),
                subject: Some(request.name.clone()),
                text: format!(
                    "{} has no server that this run started and {left_out} of {} faults are meant for, so its \
                     trials ran without them.",
                    request.name,
                    faults.len()
                ),
            });
        }
    }

    async fn rounds(
        &mut self,
        requests: &[SubjectRequest],
        servers: &Servers,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let rounds = self.spec.profile.trials;
        let total = rounds as usize * requests.len();
        for round in 0..rounds {
            for position in 0..requests.len() {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let at = (position + round as usize) % requests.len();
                let request = &requests[at];
                let number = round as usize * requests.len() + position + 1;
                let bar =
                    ui.trial(&request.name, round + 1, number, total, self.spec.profile.planned_duration());
                let pass = Pass {
                    label: round.to_string(),
                    index: round,
                    position: u32::try_from(position)?,
                    profile: &self.spec.profile,
                };
                let result = self.pass(request, &pass, servers, &bar, stop).await;
                match result {
                    Ok(finished) => {
                        bar.finish(&finished.result.record.trial);
                        let own = request.backend.has_own_processes();
                        self.take(at, finished, servers.pids(request).is_empty() && !own);
                    }
                    Err(failure) => {
                        bar.fail(&format!("{failure:#}"));
                        self.failures.push(format!("{} trial {}: {failure:#}", request.name, round + 1));
                    }
                }
                self.save()?;
            }
        }
        Ok(())
    }

    /// The worst of all trials counts for the run.
    fn take_consistency(&mut self, subject: &str, store: &crate::store::StoreResult) {
        let known = self.record.verdicts.consistency.as_deref().and_then(Verdict::of_word);
        let worst = known.map_or(store.consistency, |known| known.max(store.consistency));
        self.record.verdicts.consistency = Some(worst.word().to_owned());
        if store.consistency != Verdict::Linearizable {
            self.record.warnings.push(Warning {
                code: format!("consistency-{}", store.consistency.word()),
                subject: Some(subject.to_owned()),
                text: format!(
                    "of {} operations on {} keys: {}",
                    store.operations,
                    store.keys,
                    store.findings.join("; ")
                ),
            });
        }
    }

    fn take(&mut self, at: usize, finished: Finished, unobserved: bool) {
        if let Some(store) = &finished.result.store {
            let subject = self.record.subjects[at].name.clone();
            self.take_consistency(&subject, store);
        }
        let subject = &mut self.record.subjects[at];
        let Finished { result, histograms, usage, warnings, faults, deaths } = finished;
        let mut trial = result.record.trial;
        trial.faults = faults;
        trial.deaths = deaths;
        usage.fill(&mut trial, result.record.started_ns);
        trial.resources.subject_observed = !unobserved;
        subject.durability = result.durability;
        for (key, value) in result.server_settings {
            subject.settings.insert(format!("server.{key}"), value.into());
        }
        for text in warnings {
            self.record.warnings.push(Warning {
                code: "subject".to_owned(),
                subject: Some(subject.name.clone()),
                text,
            });
        }
        subject.trials.push(trial);
        self.histograms.merge(&histograms).expect("all of a run's histograms have the same range");
    }

    /// Writes what there is, marked partial, so that a killed run still renders.
    fn save(&self) -> anyhow::Result<()> {
        let mut so_far = self.record.clone();
        queuebench_reports::statistics::summarize(&mut so_far);
        self.folder.write_record(&so_far)?;
        self.folder.write_histograms(&self.histograms, self.started_at)?;
        Ok(())
    }

    fn required_missing(&self) -> Vec<Skipped> {
        let required = |s: &&Skipped| self.spec.require.contains(&s.subject);
        self.record.skipped.iter().filter(required).cloned().collect()
    }

    fn finish(mut self, ui: &Ui, interrupted: bool) -> anyhow::Result<RunReport> {
        self.record.finished_at = Some(jiff::Timestamp::now().to_string());
        self.record.partial = interrupted || !self.failures.is_empty();
        for failure in &self.failures {
            self.record.warnings.push(Warning {
                code: "trial-failed".to_owned(),
                subject: None,
                text: failure.clone(),
            });
        }
        queuebench_reports::statistics::summarize(&mut self.record);
        if let Err(error) = self.spec.gates.judge(&mut self.record) {
            self.failures.push(error.to_string());
        }
        if self.spec.profile.judge_growth {
            growth::judge(&mut self.record);
        }
        let missing = self.required_missing();
        self.folder.write_record(&self.record)?;
        self.folder.write_histograms(&self.histograms, self.started_at)?;
        let _ = std::fs::remove_dir_all(self.folder.path().join("shards"));
        ui.stop_logging();
        // Drawn under its final name: a folder that still bears its partial one draws as interrupted.
        let folder = self.folder.finish()?;
        queuebench_reports::render::write_all(&folder).context("drawing the report")?;
        Ok(RunReport {
            run: self.record,
            folder: folder.path().to_owned(),
            interrupted,
            failures: self.failures,
            missing,
        })
    }
}

/// A subject's configuration as the record shows it: the typed form, which hides secrets, without the names
/// that differ from trial to trial.
fn visible_settings(config: &serde_json::Value) -> record::Settings {
    if let Some(store) = config.get("store").and_then(|v| v.as_object()) {
        let shown = store.iter().filter(|(key, _)| !["prefix", "endpoints"].contains(&key.as_str()));
        return shown.map(|(key, value)| (key.clone(), value.clone())).collect();
    }
    if let Some(cluster) = config.get("cluster").and_then(|v| v.as_object()) {
        let shown = cluster.iter().filter(|(key, _)| !ClusterConfig::PLACES.contains(&key.as_str()));
        return shown.map(|(key, value)| (key.clone(), value.clone())).collect();
    }
    let typed = serde_json::from_value::<SubjectConfig>(config.clone());
    let value = typed.ok().and_then(|c| serde_json::to_value(c).ok());
    let settings =
        value.as_ref().and_then(|v| v.as_object()).and_then(|v| v.values().next()?.as_object().cloned());
    settings
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, value)| !value.is_null() && !["stream", "subject", "topic"].contains(&key.as_str()))
        .collect()
}

/// Differs between runs of one second on one machine.
fn uuid_seed() -> u64 {
    mix(crate::clock::now(), u64::from(std::process::id()))
}
