//! `queuebench capacity`: the highest rate that holds an objective.

use clap::Args;
use queuebench_reports::gate::Slo;

use super::{RunOptions, Usage, compare, load_profile};
use crate::capacity::Bounds;
use crate::exit::Exit;
use crate::run::{CapacityTask, Gates, Task};
use crate::subject::{Backend, SubjectRequest};
use crate::units::{Rate, Span};

/// A search.
#[derive(Debug, Args)]
pub(super) struct Capacity {
    /// What has to hold, like `response_p99_us < 5ms`; may be given more than once. Every acknowledged message
    /// has to arrive as well
    #[arg(long, value_name = "EXPR", required = true)]
    slo: Vec<Slo>,
    /// Subjects, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "memory,nats,kafka,composite")]
    backends: Vec<Backend>,
    /// A built-in profile or a file: its workload is taken, its phases are not
    #[arg(long, value_name = "NAME|FILE", default_value = "standard")]
    profile: String,
    /// The first rate
    #[arg(long, value_name = "RATE", default_value = "1k/s")]
    from: Rate,
    /// No higher rate is tried
    #[arg(long, value_name = "RATE", default_value = "2M/s")]
    to: Rate,
    /// Factor from one rate to the next while it holds
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    growth: f64,
    /// The found rate is at most this share below one that fails
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    precision: f64,
    /// Length of a trial's measured phase
    #[arg(long, value_name = "SPAN", default_value = "3s")]
    step: Span,
    /// The time for the search as a whole; what was found by then is confirmed
    #[arg(long, value_name = "SPAN", default_value = "15m")]
    limit: Span,
    #[command(flatten)]
    options: RunOptions,
}

impl Capacity {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        self.check().map_err(Usage)?;
        let gates: Gates = self.options.gates.read()?;
        let profile = load_profile(&self.profile, &self.options)?;
        let durability = self.options.durability.map(Into::into);
        let mut subjects: Vec<SubjectRequest> = Vec::new();
        for backend in &self.backends {
            if subjects.iter().any(|s| s.name == backend.name()) {
                return Err(Usage(format!("--backends names {backend} twice")).into());
            }
            subjects.push(SubjectRequest::new(backend.name(), &profile, durability).map_err(Usage)?);
        }
        let names: Vec<_> = self.backends.iter().map(|b| b.name()).collect();
        gates.check_names(&names, &["probe"]).map_err(|e| Usage(e.to_string()))?;
        let task = CapacityTask {
            slo: self.slo.clone(),
            bounds: Bounds {
                from_per_s: self.from.get(),
                to_per_s: self.to.get(),
                growth: self.growth,
                precision: self.precision / 100.0,
                confirmations: self.options.trials.unwrap_or(3),
            },
            step: self.step.0,
            time_limit: self.limit.0,
        };
        let command = self.command();
        compare::conduct("capacity", subjects, profile, command, self.options, gates, Task::Capacity(task))
    }

    fn check(&self) -> Result<(), String> {
        let rules = [
            (self.from <= self.to, "--from must not be over --to"),
            (self.growth >= 1.1 && self.growth <= 100.0, "--growth must be 1.1 to 100"),
            (self.precision >= 0.5 && self.precision <= 50.0, "--precision must be 0.5 to 50 (percent)"),
            (self.step.0.as_millis() >= 100 && self.step.0.as_secs() <= 3_600, "--step must be 100ms to 1h"),
            (self.limit.0 >= self.step.0, "--limit must be at least one --step"),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, message)) => Err(message.to_owned()),
            None => Ok(()),
        }
    }

    /// The command that repeats the search.
    fn command(&self) -> String {
        let names: Vec<_> = self.backends.iter().map(|b| b.name()).collect();
        let mut command = "queuebench capacity".to_owned();
        for slo in &self.slo {
            command.push_str(&format!(" --slo '{slo}'"));
        }
        command.push_str(&format!(
            " --backends {} --profile {} --from {} --to {} --growth {} --precision {} --step {} --limit {}",
            names.join(","),
            self.profile,
            self.from,
            self.to,
            self.growth,
            self.precision,
            self.step,
            self.limit
        ));
        if let Some(trials) = self.options.trials {
            command.push_str(&format!(" --trials {trials}"));
        }
        command
    }
}
