//! The run-record types, statistics over records, and everything that is drawn from a record.
//!
//! In reading order:
//!
//! - [`record`]: what a run leaves behind (`result.json`), versioned.
//! - [`histograms`]: the latency histograms beside it (`histograms.hlog`).
//! - [`folder`]: the folder that holds both, written whole or not at all.
//! - [`statistics`]: summaries over trials, paired comparisons, warnings, verdicts.
//! - [`answer`]: the sentences that a person would say.
//! - [`render`]: the report, one HTML file.
//! - [`gate`] and [`merge`]: judging a record, and joining the shards of one.
//! - [`export`] and [`terminal`]: the same for other tools and for a terminal.
//!
//! Nothing here opens a socket, starts a process or knows another member of the workspace: a run made last
//! month still draws.

#[cfg(test)]
extern crate self as queuebench_reports;

pub mod answer;
pub mod export;
mod figures;
pub mod folder;
pub mod gate;
pub mod histograms;
pub mod merge;
mod palette;
pub mod record;
pub mod render;
mod scaling;
pub mod statistics;
mod summary_table;
pub mod terminal;
mod words;

#[cfg(test)]
#[path = "../tests/support/sample.rs"]
mod sample;
