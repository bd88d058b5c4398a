//! Two runs against each other: subjects and phases matched by name, each figure of the second run over the first's.
//!
//! Rounds of different runs share no disturbance, so nothing is paired: the interval resamples the trials of both
//! runs independently.

use super::{Direction, KEY_METRICS, Metric, TRIALS_MIN, bootstrap, by_round, comparison, measured_phases};
use crate::record::{ComparisonVerdict, Interval, Run, Subject};

/// A figure of one subject in two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunComparison {
    /// The subject's name in both runs.
    pub subject: String,
    /// The phase's name in both runs.
    pub phase: String,
    /// The figure.
    pub metric: Metric,
    /// In the first run.
    pub first: Interval,
    /// In the second run.
    pub second: Interval,
    /// Second over first.
    pub ratio: f64,
    /// Bootstrap interval of the ratio; absent when either run has fewer than three trials.
    pub ci95: Option<[f64; 2]>,
    /// What may be said of the second run.
    pub verdict: ComparisonVerdict,
}

/// Every key metric that both runs measured for the same subject and phase.
pub fn compare_runs(first: &Run, second: &Run) -> Vec<RunComparison> {
    let mut found = Vec::new();
    let phases = measured_phases(second);
    for phase in measured_phases(first).iter().filter(|phase| phases.contains(phase)) {
        for a in &first.subjects {
            let Some(b) = second.subjects.iter().find(|b| b.name == a.name) else { continue };
            found.extend(KEY_METRICS.iter().filter_map(|metric| compare(first.seed, a, b, phase, *metric)));
        }
    }
    found
}

fn compare(seed: u64, a: &Subject, b: &Subject, phase: &str, metric: Metric) -> Option<RunComparison> {
    let values = |subject| by_round(subject, phase, metric).into_values().collect::<Vec<f64>>();
    let (of_a, of_b) = (values(a), values(b));
    let seed = bootstrap::seed_of(seed, &["across runs", &a.name, phase, metric.key()]);
    let (first, second) = (super::interval(&of_a, seed)?, super::interval(&of_b, seed ^ 1)?);
    if first.median <= 0.0 || second.median <= 0.0 {
        return None;
    }
    let enough = of_a.len().min(of_b.len()) >= TRIALS_MIN;
    let ci95 = enough.then(|| bootstrap::ratio_interval95(&of_b, &of_a, seed ^ 2));
    let better: Direction = metric.better();
    Some(RunComparison {
        subject: a.name.clone(),
        phase: phase.to_owned(),
        metric,
        first,
        second,
        ratio: second.median / first.median,
        ci95,
        verdict: ci95.map_or(ComparisonVerdict::NotEnoughData, |ci95| comparison::verdict(ci95, better)),
    })
}
