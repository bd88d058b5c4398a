//! `queuebench report`: draws a run again, puts two side by side, or holds one against gates.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use queuebench_reports::export::{self, Format};
use queuebench_reports::folder::RunFolder;
use queuebench_reports::render;

use super::gates::GateOptions;
use super::{Usage, print, say};
use crate::exit::Exit;
use crate::run::Gates;

/// A run drawn again.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// One run's folder, or two to put side by side
    #[arg(required = true, num_args = 1..=2, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print in this format instead of writing the report's files
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    gates: GateOptions,
    /// Where the page of two runs goes
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    out: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let format =
            self.format.as_deref().map(str::parse::<Format>).transpose().map_err(|e| Usage(e.to_string()))?;
        let gates = self.gates.read()?;
        let folders = self.runs.iter().map(|path| RunFolder::open(path)).collect::<Result<Vec<_>, _>>()?;
        if !gates.is_empty() && folders.len() > 1 {
            return Err(Usage("--gate goes with one run; another one is its --baseline".to_owned()).into());
        }
        let hold = match &folders[..] {
            // Judged first, so that what is drawn shows it.
            [folder] => judge(&gates, folder)?,
            _ => true,
        };
        match (&folders[..], format) {
            ([folder], Some(format)) => {
                print(&export::to_string(&folder.record()?, &folder.histograms()?, format)?);
            }
            ([folder], None) => {
                let page = render::write_all(folder)?;
                say(&format!("report: {}", page.display()));
            }
            ([_, _], Some(_)) => {
                return Err(Usage("--format goes with one run; two are drawn as one page".to_owned()).into());
            }
            ([a, b], None) => {
                let (a, b) = ((a.record()?, a.histograms()?), (b.record()?, b.histograms()?));
                let page = render::html_pair((&a.0, &a.1), (&b.0, &b.1))?;
                std::fs::write(&self.out, page)
                    .with_context(|| format!("cannot write {}", self.out.display()))?;
                say(&format!("report: {}", self.out.display()));
            }
            _ => return Err(Usage("one run or two".to_owned()).into()),
        }
        Ok(if hold { Exit::Done } else { Exit::Gate })
    }
}

/// Holds a run against the gates and writes down what came of it.
fn judge(gates: &Gates, folder: &RunFolder) -> anyhow::Result<bool> {
    if gates.is_empty() {
        return Ok(true);
    }
    let mut run = folder.record()?;
    gates.judge(&mut run).map_err(|e| Usage(e.to_string()))?;
    for result in &run.gates {
        say(&result.to_string());
    }
    folder.write_record(&run)?;
    Ok(run.gates.iter().all(|result| result.holds))
}
