//! `queuebench compare pipeline`: over several queues, with one or several processors, under a profile's load or
//! an even one for a long time.

use std::time::Duration;

use clap::Args;

use super::{RunOptions, Usage, load_profile};
use crate::exit::Exit;
use crate::subject::{Backend, SubjectRequest};
use crate::units::Span;

/// The profile of `--soak`.
const SOAK: &str = "pipeline-soak";

/// What a pipeline is made of, and for how long it is loaded.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Shape {
    /// Processors that share the work; several counts, separated by commas, are compared
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = clap::value_parser!(u16).range(1..=64))]
    processors: Vec<u16>,
    /// Minutes of an even load, after which memory, tasks or open files that grew fail the run (exit code 3), as
    /// lost messages do (4)
    #[arg(long, value_name = "MINUTES", conflicts_with = "profile",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    soak: Option<u64>,
}

/// Compares the pipeline over several queues.
pub(super) fn compare(
    backends: &[Backend],
    profile: &str,
    shape: &Shape,
    options: RunOptions,
) -> anyhow::Result<Exit> {
    let (name, said) = match shape.soak {
        Some(minutes) => (SOAK, format!(" --soak {minutes}")),
        None => (profile, format!(" --profile {profile}")),
    };
    let mut profile = load_profile(name, &options)?;
    if let (Some(minutes), Some(phase)) = (shape.soak, profile.phases.last_mut()) {
        phase.duration = Span(Duration::from_secs(minutes * 60));
        profile.check()?;
    }
    let durability = options.durability.map(Into::into);
    let mut subjects: Vec<SubjectRequest> = Vec::new();
    for &backend in backends {
        let over = over(backend)?;
        if subjects.iter().any(|subject| subject.backend == over) {
            return Err(Usage(format!("--backends names {backend} twice")).into());
        }
        let subject = SubjectRequest::new(over.name(), &profile, durability).map_err(Usage)?;
        if shape.processors.is_empty() {
            subjects.push(subject);
            continue;
        }
        for &count in &shape.processors {
            let subject = with_processors(&subject, count);
            if subjects.iter().any(|known| known.name == subject.name) {
                return Err(Usage(format!("--processors names {count} twice")).into());
            }
            subjects.push(subject);
        }
    }
    let list: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    let mut command = format!("queuebench compare pipeline --backends {}{said}", list.join(","));
    if !shape.processors.is_empty() {
        let counts: Vec<_> = shape.processors.iter().map(u16::to_string).collect();
        command.push_str(&format!(" --processors {}", counts.join(",")));
    }
    super::compare::execute("pipeline", subjects, profile, command, options)
}

/// The pipeline over a queue, whether the queue or the pipeline was named.
fn over(backend: Backend) -> Result<Backend, Usage> {
    match backend.of_pipeline() {
        Some(_) => Ok(backend),
        None => backend.under_pipeline().ok_or_else(|| {
            Usage(format!(
                "--backends names {backend}: the pipeline runs over memory, nats, kafka or composite"
            ))
        }),
    }
}

fn with_processors(subject: &SubjectRequest, count: u16) -> SubjectRequest {
    let mut subject = subject.clone();
    subject.name = format!("{}-x{count}", subject.name);
    subject.overrides.insert("processors".to_owned(), toml::Value::Integer(count.into()));
    subject
}
