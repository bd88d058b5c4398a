//! A load, in TOML: what is sent, by how many, in which phases.
//!
//! A profile is parsed, checked and completed with defaults in one go; what [`Profile::parse`] returns can
//! be run. Every refusal names the line, the key and what would be right ([`ProfileError`]).

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::clock::Pacing;
use crate::units::Span;

pub mod builtin;
mod error;
mod fault;
mod keys;
mod message_ids;
mod payload;
mod phase;
mod rate;
mod trace;
mod validate;
mod workload;

pub use error::ProfileError;
pub use fault::{Fault, FaultKind, FaultTarget};
pub use keys::Keys;
pub use message_ids::MessageIds;
pub use payload::Payload;
pub use phase::{Arrivals, Consumers, Model, Phase};
pub use rate::{RateShape, TracePace};
pub use trace::{Trace, TraceFormat, TraceRecord, TraceSource};
pub use workload::Workload;

/// A load that can be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Part of the run's folder name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// One line for `queuebench profiles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Passes over each subject; three at least for intervals and comparisons.
    #[serde(default = "default_trials")]
    pub trials: u32,
    /// Processes that load a subject at once, each with all of the workload's producers and consumers and its
    /// share of the rate and of the messages in flight.
    #[serde(default = "one_shard")]
    pub shards: u16,
    /// How producers wait for a due time.
    #[serde(default)]
    pub pacing: Pacing,
    /// Length of a window of the time series.
    #[serde(default = "default_window")]
    pub window: Span,
    /// How long consumers may take, after the last phase, to receive what was acknowledged.
    #[serde(default = "default_drain_deadline")]
    pub drain_deadline: Span,
    /// What is sent, and by how many.
    pub workload: Workload,
    /// In order of time.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// Whether memory, open files and tasks of the subject may not grow while the load stays the same; a run
    /// whose subject grows fails its gate. For subjects whose processes can be watched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judge_growth: bool,
    /// What is broken meanwhile, in any order.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Settings of subjects, by name, where they differ from the subject's own defaults. `queuebench run`
    /// takes its subjects from here.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub subjects: IndexMap<String, toml::Table>,
}

fn default_trials() -> u32 {
    3
}

fn one_shard() -> u16 {
    1
}

fn default_window() -> Span {
    Span(std::time::Duration::from_millis(500))
}

fn default_drain_deadline() -> Span {
    Span(std::time::Duration::from_secs(15))
}

impl Profile {
    /// Parses and checks a profile. `origin` names the text in errors: a path, or `profile smoke`.
    ///
    /// # Errors
    /// The first syntax error, or the first broken rule, with its line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|e| ProfileError::of_toml(origin, text, &e))?;
        match validate::problems(&profile).into_iter().next() {
            Some(problem) => Err(ProfileError::of_problem(origin, text, &problem)),
            None => Ok(profile),
        }
    }

    /// Checks a profile that was changed after it was parsed.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Result<(), ProfileError> {
        match validate::problems(self).into_iter().next() {
            Some(problem) => Err(ProfileError::of_problem(&format!("profile {}", self.name), "", &problem)),
            None => Ok(()),
        }
    }

    /// A built-in profile by its name, or the profile in a file.
    ///
    /// # Errors
    /// When there is neither such a name nor such a file, or the text is not a profile.
    pub fn load(name_or_path: &str) -> Result<Self, ProfileError> {
        if let Some(text) = builtin::text(name_or_path) {
            return Self::parse(text, &format!("profile {name_or_path}"));
        }
        let text = std::fs::read_to_string(name_or_path).map_err(|e| {
            ProfileError::unreadable(
                name_or_path,
                &format!("{e}; built-in profiles are {}", builtin::names().collect::<Vec<_>>().join(", ")),
            )
        })?;
        let mut profile = Self::parse(&text, name_or_path)?;
        profile.resolve_paths(std::path::Path::new(name_or_path).parent());
        Ok(profile)
    }

    /// Paths in a profile are relative to its file.
    fn resolve_paths(&mut self, base: Option<&std::path::Path>) {
        let Some(base) = base else { return };
        if let Payload::File { path } = &mut self.workload.payload {
            *path = base.join(&path);
        }
        if let Some(trace) = &mut self.workload.trace {
            trace.path = base.join(&trace.path);
        }
    }

    /// The largest number of messages that any phase lets be in flight.
    pub fn max_in_flight(&self) -> u32 {
        self.phases.iter().map(Phase::in_flight).max().unwrap_or(1)
    }

    /// How long the phases last by plan.
    pub fn planned_duration(&self) -> std::time::Duration {
        self.phases.iter().map(|p| p.duration.0).sum()
    }
}

#[cfg(test)]
mod tests;
