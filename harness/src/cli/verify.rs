//! `queuebench verify`: judges a recorded history.

use std::path::PathBuf;

use clap::Args;

use super::{Usage, print};
use crate::consistency::{STEPS_MAX, Verdict, history, judge};
use crate::exit::Exit;

/// A history to judge.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// JSON lines, as a comparison of stores leaves them in `histories/`
    history: PathBuf,
    /// Steps of search for each key before it counts as undecided
    #[arg(long, value_name = "N", default_value_t = STEPS_MAX)]
    steps: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let entries = history::read(&self.history)
            .map_err(|error| Usage(format!("{}: {error}", self.history.display())))?;
        let judged = judge(&entries, self.steps);
        if self.json {
            print(&serde_json::to_string_pretty(&serde_json::json!({
                "verdict": judged.verdict.word(),
                "operations": judged.operations,
                "keys": judged.keys,
                "searched": judged.searched,
                "lost": judged.lost,
                "findings": judged.findings,
            }))?);
        } else {
            print(&format!(
                "{}: {} operations on {} keys",
                judged.verdict.word(),
                judged.operations,
                judged.keys
            ));
            for finding in &judged.findings {
                print(&format!("  {finding}"));
            }
        }
        // Undecided is not proved, so it does not pass.
        Ok(match judged.verdict {
            Verdict::Linearizable => Exit::Done,
            Verdict::Undecided => Exit::Failed,
            Verdict::Violated => Exit::Violated,
        })
    }
}
