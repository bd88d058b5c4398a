//! Paired comparisons: how many times as much one subject shows as another, round by round.
//!
//! Rounds are paired by index, because what disturbs a machine disturbs the neighbours in a round alike. The ratio
//! is the median over rounds and its interval a bootstrap of the logarithms of the ratios. A verdict is given only
//! when the whole interval lies beyond equality by more than [`NOISE_THRESHOLD`].

use super::{Direction, Metric, TRIALS_MIN, bootstrap, by_round, measured_phases};
use crate::record::{Comparison, ComparisonVerdict, Provisioner, Run, Subject};

/// Differences up to this share are taken for noise: reruns of one subject on a quiet machine differ by that much.
pub const NOISE_THRESHOLD: f64 = 0.05;

/// The metrics on which subjects are compared.
pub const KEY_METRICS: [Metric; 7] = [
    Metric::Throughput,
    Metric::ResponseP50,
    Metric::ResponseP95,
    Metric::ResponseP99,
    Metric::EndToEndP95,
    Metric::CpuPerMessage,
    Metric::RssPeak,
];

/// Every pair of subjects, on every key metric, in every measured phase that both went through.
pub(super) fn compare_all(run: &Run) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    // After a search, each subject was measured at a rate of its own: only the rates compare.
    let metrics = if run.capacity.is_some() { &[Metric::Throughput][..] } else { &KEY_METRICS };
    for phase in measured_phases(run) {
        for &metric in metrics {
            for (index, a) in run.subjects.iter().enumerate() {
                for b in &run.subjects[index + 1..] {
                    comparisons.extend(compare(run.seed, a, b, &phase, metric));
                }
            }
        }
    }
    comparisons
}

/// One pair; `None` when no round has both, or when the figures do not mean the same for both.
fn compare(seed: u64, a: &Subject, b: &Subject, phase: &str, metric: Metric) -> Option<Comparison> {
    // An embedded subject's CPU and memory contain the harness's, those of a server do not.
    let embedded = |subject: &Subject| subject.provisioner == Provisioner::Embedded;
    if matches!(metric, Metric::CpuPerMessage | Metric::RssPeak) && embedded(a) != embedded(b) {
        return None;
    }
    let log_ratios = log_ratios(a, b, phase, metric);
    let seed = bootstrap::seed_of(seed, &[&a.name, &b.name, phase, metric.key()]);
    let (ratio, ci95, verdict) = judge(&log_ratios, metric.better(), seed)?;
    Some(Comparison {
        metric: metric.key().to_owned(),
        phase: phase.to_owned(),
        a: a.name.clone(),
        b: b.name.clone(),
        ratio,
        ci95,
        verdict,
    })
}

/// Rounds in which either value is zero or missing have no ratio and are left out.
fn log_ratios(a: &Subject, b: &Subject, phase: &str, metric: Metric) -> Vec<f64> {
    let of_b = by_round(b, phase, metric);
    by_round(a, phase, metric)
        .into_iter()
        .filter_map(|(round, a)| Some((a, *of_b.get(&round)?)))
        .filter(|(a, b)| *a > 0.0 && *b > 0.0)
        .map(|(a, b)| (a / b).ln())
        .collect()
}

/// Ratio, interval and verdict from the logarithms of paired ratios.
pub(crate) fn judge(
    log_ratios: &[f64],
    better: Direction,
    seed: u64,
) -> Option<(f64, Option<[f64; 2]>, ComparisonVerdict)> {
    let ratio = bootstrap::median(log_ratios)?.exp();
    if log_ratios.len() < TRIALS_MIN {
        return Some((ratio, None, ComparisonVerdict::NotEnoughData));
    }
    let interval = bootstrap::interval95(log_ratios, seed).map(f64::exp);
    Some((ratio, Some(interval), verdict(interval, better)))
}

/// What an interval of ratios allows one to say.
pub(crate) fn verdict([low, high]: [f64; 2], better: Direction) -> ComparisonVerdict {
    let more = low > 1.0 + NOISE_THRESHOLD;
    let less = high < 1.0 / (1.0 + NOISE_THRESHOLD);
    match (better, more, less) {
        (Direction::Higher, true, _) | (Direction::Lower, _, true) => ComparisonVerdict::Better,
        (Direction::Higher, _, true) | (Direction::Lower, true, _) => ComparisonVerdict::Worse,
        _ => ComparisonVerdict::Same,
    }
}
