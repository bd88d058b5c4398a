use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;
use crate::{
    record::{ComparisonVerdict, DeliveryVerdict, Durability, LoadVerdict, Provisioner},
    sample,
};

fn codes(run: &Run) -> Vec<&str> {
    run.warnings.iter().map(|warning| warning.code.as_str()).collect()
}

/// The sample with chosen p95 of nats and kafka in the first measured phase, one value per round.
fn with_p95(nats: &[f64], kafka: &[f64]) -> Run {
    let (mut run, _) = sample::raw(u32::try_from(nats.len()).unwrap());
    for (subject, values) in [(1, nats), (2, kafka)] {
        for (trial, value) in run.subjects[subject].trials.iter_mut().zip(values) {
            trial.phases[1].response_us.p95 = *value;
        }
    }
    summarize(&mut run);
    run
}

fn p95_of_pair(run: &Run) -> &crate::record::Comparison {
    run.comparisons
        .iter()
        .find(|c| c.a == "nats" && c.b == "kafka" && c.metric == "response_p95_us" && c.phase == "steady-2k")
        .unwrap()
}

#[test]
fn a_summary_is_the_median_over_trials_and_the_range_of_three() {
    let run = with_p95(&[900.0, 1_000.0, 1_300.0], &[1.0, 1.0, 1.0]);
    let summary = run.subjects[1].summary["steady-2k"]["response_p95_us"];
    assert_eq!(summary, Interval { median: 1_000.0, ci95: Some([900.0, 1_300.0]), trials: 3 });
    let phases: Vec<&String> = run.subjects[1].summary.keys().collect();
    assert_eq!(phases, ["steady-2k", "steady-10k", "saturation"], "the warm-up is not summarized");
}

#[test]
fn cpu_is_the_subjects_or_the_embedding_process_and_absent_where_nothing_was_seen() {
    let (mut run, _) = sample::raw(3);
    run.subjects[1].provisioner = Provisioner::External;
    for trial in &mut run.subjects[1].trials {
        trial.resources.subject_observed = false;
    }
    summarize(&mut run);
    let cpu = |subject: usize| run.subjects[subject].summary["steady-2k"].get("cpu_us_per_message");
    assert_eq!(cpu(0).unwrap().trials, 3, "embedded: the trial's process");
    assert_eq!(cpu(1), None, "external and unseen");
    assert!(cpu(2).unwrap().median > 10.0, "the server's own");
    let compared =
        run.comparisons.iter().filter(|c| c.metric == "cpu_us_per_message" && c.phase == "steady-2k");
    let pairs: Vec<_> = compared.map(|c| (c.a.as_str(), c.b.as_str())).collect();
    assert_eq!(pairs, [("kafka", "composite")], "embedded cost is not compared with a server's");
}

#[test]
fn ratios_are_paired_by_round() {
    // Each round is twice as slow as the one before; within a round kafka takes twice as long.
    let run = with_p95(&[100.0, 200.0, 400.0], &[200.0, 400.0, 800.0]);
    let pair = p95_of_pair(&run);
    assert!((pair.ratio - 0.5).abs() < 1e-12);
    let [low, high] = pair.ci95.unwrap();
    assert!((low - 0.5).abs() < 1e-12 && (high - 0.5).abs() < 1e-12, "no spread within rounds");
    assert_eq!(pair.verdict, ComparisonVerdict::Better);
}

#[test]
fn a_verdict_needs_an_interval_beyond_the_noise() {
    let verdict = |nats: [f64; 3], kafka: [f64; 3]| p95_of_pair(&with_p95(&nats, &kafka)).verdict;
    assert_eq!(verdict([100.0; 3], [100.0, 110.0, 130.0]), ComparisonVerdict::Same, "touches equality");
    assert_eq!(verdict([100.0; 3], [103.0, 104.0, 104.5]), ComparisonVerdict::Same, "within 5 %");
    assert_eq!(verdict([100.0; 3], [106.0, 107.0, 108.0]), ComparisonVerdict::Better, "lower is better");
    assert_eq!(verdict([106.0, 107.0, 108.0], [100.0; 3]), ComparisonVerdict::Worse);
}

#[test]
fn more_throughput_is_better() {
    let (run, _) = sample::run();
    let found = run
        .comparisons
        .iter()
        .find(|c| {
            c.metric == "throughput_per_s" && c.phase == "saturation" && c.a == "nats" && c.b == "kafka"
        })
        .unwrap();
    assert_eq!(found.verdict, ComparisonVerdict::Worse);
    assert!((found.ratio - 61_800.0 / 118_200.0).abs() < 0.05);
}

#[test]
fn two_trials_give_figures_but_neither_interval_nor_verdict() {
    let run = with_p95(&[100.0, 120.0], &[900.0, 1_000.0]);
    let summary = run.subjects[1].summary["steady-2k"]["response_p95_us"];
    assert_eq!(summary, Interval { median: 110.0, ci95: None, trials: 2 });
    assert_eq!(p95_of_pair(&run).verdict, ComparisonVerdict::NotEnoughData);
    assert_eq!(p95_of_pair(&run).ci95, None);
    assert!(codes(&run).contains(&"too-few-trials"));
}

#[test]
fn the_sample_has_the_warnings_of_its_nature_and_no_other() {
    let (run, _) = sample::run();
    assert_eq!(
        codes(&run),
        ["durability-differs", "closed-model-percentiles", "cores-shared", "embedded-resources"]
    );
    assert_eq!(run.verdicts.delivery, Some(DeliveryVerdict::Kept));
}

#[test]
fn every_code_is_found_in_a_record_that_deserves_it() {
    let (mut run, _) = sample::raw(2);
    run.partial = true;
    run.environment.load_average_1m = Some(1.9);
    run.subjects[1].provisioner = Provisioner::Native;
    run.subjects[1].trials[0].phases[1].load_verdict = LoadVerdict::GeneratorLimited;
    run.subjects[1].trials[0].phases[2].load_verdict = LoadVerdict::OfferedRateNotReached;
    run.subjects[2].trials[0].phases[1].response_us.p95 *= 3.0;
    run.subjects[2].trials[0].delivery.drain_deadline_passed = true;
    run.subjects[2].trials[0].delivery.unknown = 3;
    let broken = &mut run.subjects[2].trials[1].delivery;
    broken.verdict = DeliveryVerdict::Violated;
    broken.lost = 12;
    broken.violations.push("12 acknowledged messages never arrived".to_owned());
    for trial in &mut run.subjects[3].trials {
        trial.resources.subject_observed = false;
    }
    summarize(&mut run);
    let mut found = codes(&run);
    found.dedup();
    let all: Vec<&str> = WarningCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(found, all, "all of them, the weightiest first");
    assert_eq!(run.verdicts.delivery, Some(DeliveryVerdict::Violated));
    let text = |code: &str| &run.warnings.iter().find(|w| w.code == code).unwrap().text;
    assert_eq!(
        text("delivery-violated"),
        "kafka broke its delivery promise in 1 of 2 trials: 12 acknowledged messages never arrived."
    );
    assert_eq!(
        text("durability-differs"),
        "Acknowledgements of memory survive nothing; acknowledgements of nats, kafka and composite survive a \
         crash of the server."
    );
}

#[test]
fn summarizing_again_changes_nothing_and_keeps_warnings_of_the_runner() {
    let (mut run, _) = sample::run();
    run.warnings.push(crate::record::Warning {
        code: "port-clash".to_owned(),
        subject: Some("kafka".to_owned()),
        text: "9092 was taken, 9192 was used.".to_owned(),
    });
    let before = run.clone();
    summarize(&mut run);
    assert_eq!(run, before);
}

#[test]
fn equal_durability_and_enough_cores_warn_of_nothing() {
    let (mut run, _) = sample::raw(3);
    run.environment.cores = 16;
    run.subjects.remove(0);
    for subject in &mut run.subjects {
        subject.durability = Durability::PowerLoss;
        for trial in &mut subject.trials {
            trial.phases.retain(|phase| phase.name != "saturation");
        }
    }
    summarize(&mut run);
    assert_eq!(codes(&run), Vec::<&str>::new());
}

#[test]
fn a_run_without_trials_is_summarized_to_nothing() {
    let (mut run, _) = sample::raw(0);
    summarize(&mut run);
    assert_eq!(run.comparisons, []);
    assert!(run.subjects.iter().all(|subject| subject.summary.is_empty()));
    assert_eq!(run.verdicts.delivery, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Median and interval lie within the values, and the interval holds the median.
    #[test]
    fn an_interval_lies_within_its_values(
        values in prop::collection::vec(0.001_f64..1e9, 3..12), seed in any::<u64>(),
    ) {
        let found = interval(&values, seed).unwrap();
        let [low, high] = found.ci95.unwrap();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        prop_assert!(min <= low && low <= found.median && found.median <= high && high <= max);
        prop_assert_eq!(interval(&values, seed), Some(found), "the same seed, the same interval");
        if values.len() <= 5 {
            prop_assert_eq!([low, high], [min, max]);
        }
    }

    /// Swapping the subjects inverts the ratio and turns the verdict round.
    #[test]
    fn a_comparison_is_antisymmetric(
        ratios in prop::collection::vec(-3.0_f64..3.0, 3..9), seed in any::<u64>(),
    ) {
        let swapped: Vec<f64> = ratios.iter().map(|ratio| -ratio).collect();
        let (ratio, ci95, verdict) = comparison::judge(&ratios, Direction::Lower, seed).unwrap();
        let (inverse, _, _) = comparison::judge(&swapped, Direction::Lower, seed).unwrap();
        prop_assert!((ratio * inverse - 1.0).abs() < 1e-9);
        let [low, high] = ci95.unwrap();
        let turned = comparison::verdict([1.0 / high, 1.0 / low], Direction::Lower);
        let expected = match verdict {
            ComparisonVerdict::Better => ComparisonVerdict::Worse,
            ComparisonVerdict::Worse => ComparisonVerdict::Better,
            other => other,
        };
        prop_assert_eq!(turned, expected);
        prop_assert_eq!(comparison::verdict([low, high], Direction::Higher), expected);
    }
}
