//! Whether a subject grew while the load stayed the same.
//!
//! Of the measured phases of each trial the first third is compared with the last, by the median of their windows:
//! what a service fills once (pools, buffers, caches of an allocator) is there by then, and a single peak moves no
//! median. A little growth is allowed, in share and in absolute terms, whichever is more.

use queuebench_reports::gate::GateResult;
use queuebench_reports::record::{Run, Trial, Window};

/// Growth up to this share is none.
const SHARE: f64 = 0.10;
/// Fewer windows in a third say nothing.
const WINDOWS_MIN: usize = 3;

/// Something that may not grow.
struct Kind {
    gate: &'static str,
    metric: &'static str,
    of: fn(&Window) -> Option<u64>,
    /// Growth up to this is none.
    floor: f64,
}

static KINDS: [Kind; 3] = [
    Kind {
        gate: "memory does not grow",
        metric: "rss_growth_bytes",
        of: |window| window.subject_rss_bytes,
        floor: (8 << 20) as f64,
    },
    Kind {
        gate: "open files do not grow",
        metric: "open_files_growth",
        of: |window| window.subject_open_files,
        floor: 16.0,
    },
    Kind {
        gate: "tasks do not grow",
        metric: "tasks_growth",
        of: |window| window.subject_tasks,
        floor: 16.0,
    },
];

/// Adds to the run's gates what grew and what did not; what could not be watched counts as grown.
pub(super) fn judge(run: &mut Run) {
    let results = run
        .subjects
        .iter()
        .flat_map(|subject| KINDS.iter().map(move |kind| (subject, kind)))
        .map(|(subject, kind)| {
            // The worst of all trials.
            let growths = subject.trials.iter().map(|trial| growth(trial, kind));
            let worst = growths.reduce(|a, b| match (a, b) {
                (Some(a), Some(b)) => Some(if a.0 / a.1 >= b.0 / b.1 { a } else { b }),
                _ => None,
            });
            let worst = worst.flatten();
            GateResult {
                gate: kind.gate.to_owned(),
                subject: subject.name.clone(),
                phase: "trial".to_owned(),
                metric: kind.metric.to_owned(),
                value: worst.map(|(grown, _)| grown),
                limit: worst.map(|(_, allowed)| allowed),
                holds: worst.is_some_and(|(grown, allowed)| grown <= allowed),
            }
        })
        .collect();
    add(run, results);
}

/// Adds results to the run's gates; one that is broken breaks the run's verdict.
fn add(run: &mut Run, results: Vec<GateResult>) {
    if results.is_empty() {
        return;
    }
    let broken = run.verdicts.gate.as_deref() == Some("failed") || results.iter().any(|result| !result.holds);
    run.verdicts.gate = Some(if broken { "failed" } else { "passed" }.to_owned());
    run.gates.extend(results);
}

/// How much it grew and how much it might have; `None` where it could not be watched long enough.
fn growth(trial: &Trial, kind: &Kind) -> Option<(f64, f64)> {
    let measured = || trial.phases.iter().filter(|phase| phase.measured);
    let within = |window: &&Window| {
        let end_s = window.start_s + trial.series.window_s;
        measured().any(|phase| window.start_s >= phase.start_s && end_s <= phase.end_s)
    };
    let values: Vec<u64> = trial.series.windows.iter().filter(within).filter_map(kind.of).collect();
    let third = values.len() / 3;
    if third < WINDOWS_MIN {
        return None;
    }
    let (first, last) = (median(&values[..third]), median(&values[values.len() - third..]));
    Some((last - first, (first * SHARE).max(kind.floor)))
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
fn median(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2] as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use queuebench_reports::record::{Delivery, DeliveryVerdict, Promise, Resources, Series};

    /// A trial of a hundred windows, of which the phase takes all.
    fn trial(rss_bytes: impl Fn(u64) -> Option<u64>) -> Trial {
        let window = |index: u32| Window {
            start_s: f64::from(index),
            subject_rss_bytes: rss_bytes(index.into()),
            ..Window::default()
        };
        let phase = serde_json::json!({
            "name": "soak", "model": "open", "measured": true, "start_s": 0.0, "end_s": 100.0,
            "achieved_per_s": 1.0, "received_per_s": 1.0, "errors": 0, "load_verdict": "ok",
            "response_us": queuebench_reports::record::Latency::default(),
            "service_us": queuebench_reports::record::Latency::default(),
            "schedule_lag_us": queuebench_reports::record::Latency::default(),
            "end_to_end_us": queuebench_reports::record::Latency::default(),
        });
        Trial {
            index: 0,
            position: 0,
            phases: vec![serde_json::from_value(phase).unwrap()],
            delivery: Delivery {
                attempted: 0,
                acknowledged: 0,
                rejected: 0,
                unknown: 0,
                received: 0,
                lost: 0,
                duplicated: 0,
                reordered: 0,
                reordered_redelivered: 0,
                corrupted: 0,
                stray: 0,
                resurrected: 0,
                drain_deadline_passed: false,
                promise: Promise { delivery: "at-least-once".to_owned(), ordered_per_key: false },
                verdict: DeliveryVerdict::Kept,
                violations: Vec::new(),
            },
            resources: Resources::default(),
            faults: Vec::new(),
            series: Series { window_s: 1.0, windows: (0..100).map(window).collect() },
            backlog: None,
            deaths: Vec::new(),
        }
    }

    fn holds(rss_bytes: impl Fn(u64) -> Option<u64>) -> Option<bool> {
        growth(&trial(rss_bytes), &KINDS[0]).map(|(grown, allowed)| grown <= allowed)
    }

    #[test]
    fn a_leak_is_found_and_a_level_or_a_peak_is_none() {
        const MIB: u64 = 1 << 20;
        assert_eq!(holds(|_| Some(50 * MIB)), Some(true));
        // A mebibyte in four seconds.
        assert_eq!(holds(|second| Some(50 * MIB + second * MIB / 4)), Some(false));
        // It fills within the first tenth and stays.
        assert_eq!(holds(|second| Some((10 + second.min(10) * 4) * MIB)), Some(true));
        assert_eq!(holds(|second| Some(if second == 95 { 500 } else { 50 } * MIB)), Some(true));
        // Never watched.
        assert_eq!(holds(|_| None), None);
    }
}
