//! What a run is held against when it is done.

use queuebench_reports::gate::{self, Gate, GateError};
use queuebench_reports::record::Run;

/// Conditions, and the earlier run that some of them compare with.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// All have to hold.
    pub gates: Vec<Gate>,
    /// What `baseline` means in them.
    pub baseline: Option<Run>,
}

impl Gates {
    /// Whether there is anything to hold a run against.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// Whether every gate that compares with a baseline has one.
    ///
    /// # Errors
    /// The first that has none.
    pub fn check_baseline(&self) -> Result<(), GateError> {
        let lacks = |gate: &&Gate| gate.needs_baseline() && self.baseline.is_none();
        match self.gates.iter().find(lacks) {
            Some(gate) => Err(GateError::NoBaseline { gate: gate.to_string() }),
            None => Ok(()),
        }
    }

    /// Whether each means something in a run of these subjects and measured phases: a wrong name is found
    /// before the load, not after it.
    ///
    /// # Errors
    /// The first that means nothing.
    pub fn check_names(&self, subjects: &[&str], phases: &[&str]) -> Result<(), GateError> {
        self.gates.iter().try_for_each(|gate| gate.check_names(subjects, phases))
    }

    /// Judges a run and writes into its record what came of it.
    ///
    /// # Errors
    /// When a gate means nothing in this run, for instance because its subject was skipped; the run then
    /// counts as failed.
    pub fn judge(&self, run: &mut Run) -> Result<(), GateError> {
        if self.is_empty() {
            return Ok(());
        }
        let judged = gate::evaluate_all(&self.gates, run, self.baseline.as_ref());
        let hold = judged.as_ref().is_ok_and(|(_, hold)| *hold);
        run.verdicts.gate = Some(if hold { "passed" } else { "failed" }.to_owned());
        run.gates = judged?.0;
        Ok(())
    }
}
