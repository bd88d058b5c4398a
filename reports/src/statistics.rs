//! Statistics over a record: pure functions of its trials and its seed.
//!
//! [`summarize`] fills what the runner leaves open: the summary of each subject and measured phase, the paired
//! comparisons, the warnings and the delivery verdict. It may be called again on a record of any age and gives the
//! same answer for the same trials.

use std::collections::BTreeMap;

use crate::record::{Interval, PhaseSummary, Run, Subject, Trial};

mod across;
mod bootstrap;
mod comparison;
mod deaths;
mod metric;
mod warning;

pub(crate) use deaths::{DeathFigure, deaths, over_deaths};
pub(crate) use warning::{and, plural};

pub use across::{RunComparison, compare_runs};
pub use comparison::{KEY_METRICS, NOISE_THRESHOLD};
pub use metric::{Direction, Metric, Unit};
pub use warning::WarningCode;

/// Fewest trials that an interval or a verdict rests on.
pub const TRIALS_MIN: usize = 3;

/// Fills summaries, comparisons, warnings and the delivery verdict of a record.
///
/// Warnings with a code of [`WarningCode`] are made anew; others, which the runner may have added, stay.
pub fn summarize(run: &mut Run) {
    let seed = run.seed;
    for subject in &mut run.subjects {
        let mut summary = indexmap::IndexMap::new();
        for phase in measured_phases_of(&subject.trials) {
            summary.insert(phase.clone(), summarize_phase(seed, subject, &phase));
        }
        subject.summary = summary;
    }
    run.comparisons = comparison::compare_all(run);
    run.warnings.retain(|known| known.code.parse::<WarningCode>().is_err());
    let found = warning::find(run);
    run.warnings.splice(0..0, found);
    run.verdicts.delivery = warning::delivery_verdict(run);
}

/// Names of the measured phases of a run, in order of time.
pub fn measured_phases(run: &Run) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for subject in &run.subjects {
        for name in measured_phases_of(&subject.trials) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn measured_phases_of(trials: &[Trial]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for phase in trials.iter().flat_map(|trial| &trial.phases) {
        if phase.measured && !names.contains(&phase.name) {
            names.push(phase.name.clone());
        }
    }
    names
}

fn summarize_phase(seed: u64, subject: &Subject, phase: &str) -> PhaseSummary {
    let mut summary = PhaseSummary::new();
    for metric in Metric::ALL {
        let values: Vec<f64> = by_round(subject, phase, metric).into_values().collect();
        if let Some(interval) =
            interval(&values, bootstrap::seed_of(seed, &[&subject.name, phase, metric.key()]))
        {
            summary.insert(metric.key().to_owned(), interval);
        }
    }
    summary
}

/// A metric's value in each round in which it was measured.
pub(crate) fn by_round(subject: &Subject, phase: &str, metric: Metric) -> BTreeMap<u32, f64> {
    let trials = subject.trials.iter();
    trials
        .filter_map(|trial| {
            let phase = trial.phases.iter().find(|p| p.name == phase && p.measured)?;
            Some((trial.index, metric.of(subject.provisioner, trial, phase)?))
        })
        .filter(|(_, value)| value.is_finite())
        .collect()
}

/// Median and interval; `None` of nothing.
fn interval(values: &[f64], seed: u64) -> Option<Interval> {
    let median = bootstrap::median(values)?;
    let ci95 = (values.len() >= TRIALS_MIN).then(|| bootstrap::interval95(values, seed));
    Some(Interval { median, ci95, trials: u32::try_from(values.len()).unwrap_or(u32::MAX) })
}

#[cfg(test)]
mod tests;
