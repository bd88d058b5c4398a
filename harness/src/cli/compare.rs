//! `queuebench compare queues` and `kv`, `queuebench run FILE`, and what every comparison shares.

use std::path::Path;

use queuebench_reports::export;
use queuebench_reports::record::DeliveryVerdict;
use queuebench_testcontainers::Via;

use super::{RunOptions, Usage, load_profile, print, runtime, say, stop_on_signal};
use crate::exit::Exit;
use crate::profile::Profile;
use crate::run::{self, Gates, RunReport, RunSpec, Task};
use crate::subject::{Backend, SubjectRequest};
use crate::ui::Ui;

/// Compares backends under one profile.
pub(super) fn queues(backends: &[Backend], profile: &str, options: RunOptions) -> anyhow::Result<Exit> {
    let queue = |backend: Backend| match backend {
        Backend::Cluster => Err(Usage(format!("{backend} is no queue, see `queuebench run cluster`"))),
        _ if backend.is_store() => Err(Usage(format!("{backend} is a store, see `queuebench compare kv`"))),
        _ => Ok(backend),
    };
    among("queues", backends, queue, profile, options)
}

/// Compares stores under one profile.
pub(super) fn stores(backends: &[Backend], profile: &str, options: RunOptions) -> anyhow::Result<Exit> {
    let store = |backend: Backend| match backend.is_store() {
        true => Ok(backend),
        false => Err(Usage(format!("{backend} is no store; there are kv and etcd"))),
    };
    among("kv", backends, store, profile, options)
}

fn among(
    compared: &str,
    backends: &[Backend],
    subject: impl Fn(Backend) -> Result<Backend, Usage>,
    profile: &str,
    options: RunOptions,
) -> anyhow::Result<Exit> {
    let name = profile;
    let profile = load_profile(profile, &options)?;
    let durability = options.durability.map(Into::into);
    let mut subjects = Vec::new();
    for &backend in backends {
        let subject = subject(backend)?;
        if subjects.iter().any(|s: &SubjectRequest| s.name == subject.name()) {
            return Err(Usage(format!("--backends names {backend} twice")).into());
        }
        subjects.push(SubjectRequest::new(subject.name(), &profile, durability).map_err(Usage)?);
    }
    let list: Vec<_> = backends.iter().map(|b| b.name()).collect();
    let command = format!("queuebench compare {compared} --backends {} --profile {name}", list.join(","));
    execute(compared, subjects, profile, command, options)
}

/// Runs a profile on the subjects that it names, or on all.
pub(super) fn file(file: &Path, options: RunOptions) -> anyhow::Result<Exit> {
    let name = file.display().to_string();
    let profile = load_profile(&name, &options)?;
    let durability = options.durability.map(Into::into);
    let mut names: Vec<_> = profile.subjects.keys().cloned().collect();
    if names.is_empty() {
        names = Backend::COMPARED.iter().map(|b| b.name().to_owned()).collect();
    }
    let subjects = names
        .iter()
        .map(|name| SubjectRequest::new(name, &profile, durability).map_err(Usage))
        .collect::<Result<Vec<_>, _>>()?;
    let clusters = subjects.iter().all(|subject| subject.backend == Backend::Cluster);
    let compared = if clusters { "cluster" } else { "queues" };
    execute(compared, subjects, profile, format!("queuebench run {name}"), options)
}

/// Runs and shows it.
pub(super) fn execute(
    compared: &str,
    subjects: Vec<SubjectRequest>,
    profile: Profile,
    command: String,
    options: RunOptions,
) -> anyhow::Result<Exit> {
    let gates = options.gates.read()?;
    let names: Vec<_> = subjects.iter().map(|s| s.name.as_str()).collect();
    let phases: Vec<_> = profile.phases.iter().filter(|p| p.measured).map(|p| p.name.as_str()).collect();
    gates.check_names(&names, &phases).map_err(|e| Usage(e.to_string()))?;
    conduct(compared, subjects, profile, command, options, gates, Task::Rounds)
}

/// What `compare`, `run` and `capacity` have in common.
pub(super) fn conduct(
    compared: &str,
    subjects: Vec<SubjectRequest>,
    profile: Profile,
    mut command: String,
    options: RunOptions,
    gates: Gates,
    task: Task,
) -> anyhow::Result<Exit> {
    let mut require: Vec<String> = options.require.iter().map(|r| r.trim().to_owned()).collect();
    if require.iter().any(|r| r == "all") {
        require = subjects.iter().map(|s| s.name.clone()).collect();
    }
    require.retain(|name| !name.is_empty());
    // Whoever requires a queue requires the pipelines over it, and whoever requires a kind of subject all of
    // that kind.
    let kinds: Vec<Backend> = require.iter().filter_map(|name| name.parse().ok()).collect();
    let meant = |backend: Backend| {
        kinds.contains(&backend) || backend.of_pipeline().is_some_and(|queue| kinds.contains(&queue))
    };
    require.extend(subjects.iter().filter(|subject| meant(subject.backend)).map(|s| s.name.clone()));
    if matches!(task, Task::Rounds) {
        command.push_str(&format!(" --trials {}", profile.trials));
    }
    command.push_str(&format!(" --seed {}", options.seed));
    if let Some(class) = options.durability {
        let class: queuebench_system::queue::Durability = class.into();
        let word = serde_json::to_value(class)?;
        command.push_str(&format!(" --durability {}", word.as_str().unwrap_or_default()));
    }
    let via: Via = options.via.into();
    if via != Via::Auto {
        command.push_str(&format!(" --via {via}"));
    }
    if let Some(shards) = options.shards {
        command.push_str(&format!(" --shards {shards}"));
    }
    command.push_str(&options.gates.words());
    let spec = RunSpec {
        task,
        gates,
        compared: compared.to_owned(),
        subjects,
        profile,
        seed: options.seed,
        via,
        require,
        out: options.out,
        command,
    };
    let ui = Ui::detect();
    let report = runtime()?.block_on(async {
        let stop = stop_on_signal();
        Box::pin(run::run(spec, &ui, &stop)).await
    })?;
    show(&report, options.json)?;
    Ok(exit(&report))
}

fn show(report: &RunReport, json: bool) -> anyhow::Result<()> {
    let page = report.folder.join("index.html");
    if json {
        // The summary needs no histograms.
        let histograms = queuebench_reports::histograms::Histograms::default();
        print(&export::to_string(&report.run, &histograms, export::Format::Json)?);
        say(&format!("report: {}", page.display()));
    } else {
        print(&queuebench_reports::terminal::summary(&report.run, Some(&page)));
    }
    for result in &report.run.gates {
        say(&result.to_string());
    }
    for failure in &report.failures {
        say(&format!("error: {failure}"));
    }
    for missing in &report.missing {
        say(&format!("error: {} is required and could not be started: {}", missing.subject, missing.reason));
    }
    Ok(())
}

fn exit(report: &RunReport) -> Exit {
    let mut reasons = Vec::new();
    if report.interrupted {
        reasons.push(Exit::Interrupted);
    }
    let inconsistent = report.run.verdicts.consistency.as_deref() == Some("violated");
    if inconsistent || report.run.verdicts.delivery == Some(DeliveryVerdict::Violated) {
        reasons.push(Exit::Violated);
    }
    if report.run.verdicts.gate.as_deref() == Some("failed") || !report.objective_held() {
        reasons.push(Exit::Gate);
    }
    if !report.missing.is_empty() {
        reasons.push(Exit::Missing);
    }
    let measured = report.run.subjects.iter().any(|s| !s.trials.is_empty());
    if !report.failures.is_empty() || !measured {
        reasons.push(Exit::Failed);
    }
    Exit::worst(reasons)
}
