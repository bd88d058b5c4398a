//! `--gate` and `--baseline`, for a run that is about to be made and for one that is there.

use std::path::PathBuf;

use clap::Args;
use queuebench_reports::folder::RunFolder;
use queuebench_reports::gate::Gate;

use super::Usage;
use crate::run::Gates;

/// Conditions on a run.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct GateOptions {
    /// A condition like `kafka.steady.response_p95_us < 5ms`; may be given more than once. Exit code 3 when
    /// one does not hold
    #[arg(long = "gate", value_name = "EXPR")]
    gates: Vec<String>,
    /// An earlier run, for gates like `*.*.response_p95_us <= 1.1x baseline`
    #[arg(long, value_name = "RUN")]
    baseline: Option<PathBuf>,
}

impl GateOptions {
    /// Reads the expressions and the baseline.
    ///
    /// # Errors
    /// Bad usage: an expression that is none, one that needs a baseline where there is none, or a baseline
    /// that cannot be read.
    pub(super) fn read(&self) -> anyhow::Result<Gates> {
        let gates = self
            .gates
            .iter()
            .map(|text| text.parse::<Gate>().map_err(|e| Usage(e.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        let open = |path: &PathBuf| {
            let record = RunFolder::open(path).and_then(|folder| folder.record());
            record.map_err(|e| Usage(format!("--baseline: {e}")))
        };
        let baseline = self.baseline.as_ref().map(open).transpose()?;
        let gates = Gates { gates, baseline };
        gates.check_baseline().map_err(|e| Usage(e.to_string()))?;
        Ok(gates)
    }

    /// As they were written, for the command that repeats the run.
    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        for gate in &self.gates {
            words.push_str(&format!(" --gate '{gate}'"));
        }
        if let Some(baseline) = &self.baseline {
            words.push_str(&format!(" --baseline {}", baseline.display()));
        }
        words
    }
}
