//! `queuebench report`: draws a run again, puts two side by side, or holds one against gates.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use queuebench_reports::export::{self, Format};
use queuebench_reports::folder::RunFolder;
use queuebench_reports::gate::{self, Gate};
use queuebench_reports::render;

use super::{Usage, print, say};
use crate::exit::Exit;

/// A run drawn again.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// One run's folder, or two to put side by side
    #[arg(required = true, num_args = 1..=2, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print in this format instead of writing the report's files
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// An earlier run, for gates that compare with `baseline`
    #[arg(long, value_name = "RUN")]
    baseline: Option<PathBuf>,
    /// A condition like `kafka.steady.response_p95_us < 5ms`; may be given more than once
    #[arg(long = "gate", value_name = "EXPR")]
    gates: Vec<String>,
    /// Where the page of two runs goes
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    out: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let format =
            self.format.as_deref().map(str::parse::<Format>).transpose().map_err(|e| Usage(e.to_string()))?;
        let folders = self.runs.iter().map(|path| RunFolder::open(path)).collect::<Result<Vec<_>, _>>()?;
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
        let [folder] = &folders[..] else {
            return Ok(Exit::Done);
        };
        self.judge(folder)
    }

    /// Holds a run against the gates, and writes down what came of it.
    fn judge(&self, folder: &RunFolder) -> anyhow::Result<Exit> {
        if self.gates.is_empty() {
            return Ok(Exit::Done);
        }
        let gates = self
            .gates
            .iter()
            .map(|text| text.parse::<Gate>().map_err(|e| Usage(e.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        let baseline = self.baseline.as_ref().map(|path| RunFolder::open(path)?.record()).transpose()?;
        let mut run = folder.record()?;
        let (results, hold) =
            gate::evaluate_all(&gates, &run, baseline.as_ref()).map_err(|e| Usage(e.to_string()))?;
        for result in &results {
            say(&result.to_string());
        }
        run.verdicts.gate = Some(if hold { "passed" } else { "failed" }.to_owned());
        folder.write_record(&run)?;
        Ok(if hold { Exit::Done } else { Exit::Gate })
    }
}
