use pretty_assertions::assert_eq;

use super::*;
use crate::sample;

/// The sample as it would look if `n` equal shards had made it: each the whole sample.
fn shards(n: usize) -> Vec<(Run, Histograms)> {
    vec![sample::raw(1); n]
}

#[test]
fn one_shard_merges_to_itself() {
    let (run, histograms) = merge(shards(1)).unwrap();
    let (mut expected, expected_histograms) = sample::raw(1);
    summarize(&mut expected);
    assert_eq!(run, expected);
    assert_eq!(histograms, expected_histograms);
}

#[test]
fn counts_and_rates_add_up_and_percentiles_come_from_merged_histograms() {
    let mut two = shards(2);
    let phase = |run: &Run| run.subjects[1].trials[0].phases[1].clone();
    // The second shard was ten times as slow.
    let slow = &mut two[1];
    let mut slower = Histograms::default();
    for (key, span, histogram) in slow.1.iter() {
        let mut scaled = crate::histograms::new_histogram();
        for value in histogram.iter_recorded() {
            scaled.record_n(value.value_iterated_to() * 10, value.count_at_value()).unwrap();
        }
        slower.add(key.clone(), span, &scaled).unwrap();
    }
    slow.1 = slower;
    let before = phase(&two[0].0);
    let windows = two[0].0.subjects[1].trials[0].series.windows.len();
    let (run, histograms) = merge(two).unwrap();
    let after = phase(&run);
    assert_eq!(after.response_us.count, 2 * before.response_us.count);
    assert!((after.achieved_per_s - 2.0 * before.achieved_per_s).abs() < 1e-6);
    assert!((after.offered_per_s.unwrap() - 4_000.0).abs() < 1e-6);
    // Half of the messages took ten times as long, so the median of the whole is the slowest of the fast half.
    assert!((after.response_us.p50 - before.response_us.max).abs() / after.response_us.p50 < 0.9);
    assert!(after.response_us.p95 > 5.0 * before.response_us.p50, "neither shard's own, nor an average");
    let key = Key::new("nats", 0, "steady-2k", Kind::Response);
    assert_eq!(Latency::from_nanoseconds(histograms.get(&key).unwrap()), after.response_us);
    assert_eq!(run.subjects[1].trials[0].series.windows.len(), windows);
    assert!(run.warnings.iter().any(|warning| warning.code == WINDOW_BOUND));
}

#[test]
fn the_ledger_adds_up_and_one_broken_promise_breaks_the_whole() {
    let mut two = shards(2);
    let delivery = &mut two[1].0.subjects[2].trials[0].delivery;
    delivery.lost = 5;
    delivery.verdict = DeliveryVerdict::Violated;
    delivery.violations.push("5 acknowledged messages never arrived".to_owned());
    let acknowledged = delivery.acknowledged;
    let (run, _) = merge(two).unwrap();
    let merged = &run.subjects[2].trials[0].delivery;
    assert_eq!((merged.acknowledged, merged.lost), (2 * acknowledged, 5));
    assert_eq!(run.verdicts.delivery, Some(DeliveryVerdict::Violated));
}

#[test]
fn a_subject_that_all_shards_watch_is_counted_once_and_the_harness_as_often_as_it_ran() {
    let one = sample::raw(1).0.subjects[1].trials[0].resources;
    let (run, _) = merge(shards(2)).unwrap();
    let two = run.subjects[1].trials[0].resources;
    assert!((two.subject.cpu_s - one.subject.cpu_s).abs() < 1e-9);
    assert!((two.harness.cpu_s - 2.0 * one.harness.cpu_s).abs() < 1e-9);
    assert!((two.subject.cpu_us_per_message - one.subject.cpu_us_per_message / 2.0).abs() < 1e-6);
}

#[test]
fn merging_does_not_depend_on_the_order_of_shards() {
    let mut shards = shards(3);
    shards[1].0.subjects[0].trials[0].delivery.duplicated = 7;
    shards[2].0.subjects[0].trials[0].phases[1].load_verdict = LoadVerdict::GeneratorLimited;
    let (forth, forth_histograms) = merge(shards.clone()).unwrap();
    shards.reverse();
    let (back, back_histograms) = merge(shards).unwrap();
    assert_eq!(forth_histograms, back_histograms);
    // Sums of floats depend on their order in the last bit.
    let rounded = |run: &Run| {
        let text = serde_json::to_string(run).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        round(value)
    };
    assert_eq!(rounded(&forth), rounded(&back));
}

fn round(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) if number.is_f64() => Value::from(format!("{:.6e}", number.as_f64().unwrap())),
        Value::Array(items) => Value::Array(items.into_iter().map(round).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(k, v)| (k, round(v))).collect()),
        other => other,
    }
}

#[test]
fn trials_that_only_one_shard_made_are_kept() {
    let mut two = shards(2);
    for trial in two[1].0.subjects.iter_mut().flat_map(|subject| &mut subject.trials) {
        trial.index = 1;
    }
    let mut moved = Histograms::default();
    for (key, span, histogram) in two[1].1.iter() {
        moved.add(Key { trial: 1, ..key.clone() }, span, histogram).unwrap();
    }
    two[1].1 = moved;
    let (run, _) = merge(two).unwrap();
    assert!(run.subjects.iter().all(|subject| subject.trials.len() == 2));
}

#[test]
fn mixtures_are_refused_with_the_field_that_differs() {
    let refused = |change: fn(&mut Run)| {
        let mut two = shards(2);
        change(&mut two[1].0);
        merge(two).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|run| run.seed = 8),
        "these are not shards of one run: seed is 7 in the first and 8 in shard 2"
    );
    assert!(refused(|run| run.id = "x".to_owned()).contains(": id is "));
    assert!(refused(|run| run.profile["trials"] = 9.into()).contains(": profile is "));
    assert!(
        refused(|run| drop(run.subjects.pop())).contains(": subjects is memory, nats, kafka, composite in")
    );
    assert!(
        refused(|run| run.subjects[1].version = "3".to_owned()).contains(": version of nats is 2.15.2 in")
    );
    let settings = refused(|run| drop(run.subjects[2].settings.insert("linger.ms".into(), 5.into())));
    assert!(settings.contains(": settings of kafka is "), "{settings}");
    assert_eq!(merge(Vec::new()).unwrap_err(), MergeError::Nothing);
    let mut two = shards(2);
    two[1].1 = Histograms::default();
    let missing = merge(two).unwrap_err().to_string();
    assert!(
        missing.starts_with("shard 2 has no response histogram of memory, trial 0, phase warmup"),
        "{missing}"
    );
}
