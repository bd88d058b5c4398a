use pretty_assertions::assert_eq;

use super::*;
use crate::{sample, statistics::summarize};

/// The sample with chosen p95 per round in the phase that the headline is about.
fn with_p95(figures: &[(usize, [f64; 3])]) -> Run {
    let (mut run, _) = sample::raw(3);
    for (subject, values) in figures {
        for (trial, value) in run.subjects[*subject].trials.iter_mut().zip(values) {
            trial.phases[2].response_us.p95 = *value;
        }
    }
    summarize(&mut run);
    run
}

#[test]
fn the_best_is_set_against_the_next_and_the_rest_follows() {
    let run = with_p95(&[(1, [1_000.0; 3]), (2, [4_500.0, 4_400.0, 4_600.0]), (3, [9_000.0; 3])]);
    let said = answer(&run);
    assert_eq!(
        said.headline,
        "At 10,000 messages/s nats answers 4.5 times faster than kafka at p95. With 256 in flight kafka carries 1.9 \
         times as much as nats."
    );
    assert_eq!(said.details[0], "nats answers 9.0 times faster than composite at p95.");
    assert!(
        said.details
            .iter()
            .any(|text| text.starts_with("memory, which keeps messages in this process only,"))
    );
    assert_eq!(said.details.last().unwrap(), "redpanda could not be started and is missing here.");
}

#[test]
fn a_wide_interval_is_said_as_two_numbers() {
    let run = with_p95(&[(1, [1_000.0; 3]), (2, [2_000.0, 3_000.0, 4_000.0]), (3, [9_000.0; 3])]);
    let headline = answer(&run).headline;
    assert!(
        headline.starts_with("At 10,000 messages/s nats answers 2.0 to 4.0 times faster than kafka"),
        "{headline}"
    );
}

#[test]
fn no_difference_is_an_answer() {
    let run = with_p95(&[(1, [900.0, 1_000.0, 1_100.0]), (2, [1_000.0; 3]), (3, [9_000.0; 3])]);
    let headline = answer(&run).headline;
    assert!(
        headline.starts_with(
            "At 10,000 messages/s no difference in p95 response time could be shown between nats and kafka; nats \
             answers faster than composite."
        ),
        "{headline}"
    );
}

#[test]
fn two_trials_do_not_make_a_winner() {
    let (mut run, _) = sample::raw(2);
    summarize(&mut run);
    let headline = answer(&run).headline;
    assert!(headline.contains("but there are too few trials to tell"), "{headline}");
    assert!(!headline.contains("times"), "{headline}");
}

#[test]
fn a_broken_promise_comes_before_any_figure() {
    let (mut run, _) = sample::raw(3);
    let delivery = &mut run.subjects[2].trials[1].delivery;
    delivery.lost = 1_234;
    delivery.verdict = DeliveryVerdict::Violated;
    summarize(&mut run);
    let said = answer(&run);
    assert!(said.headline.starts_with("kafka lost 1,234 of 3,"), "{}", said.headline);
    assert!(said.headline.ends_with(" acknowledged messages."), "{}", said.headline);
    assert!(said.details[0].starts_with("At 10,000 messages/s"), "{}", said.details[0]);
}

#[test]
fn subjects_of_unequal_durability_are_not_ranked() {
    let (mut run, _) = sample::raw(3);
    run.subjects[2].durability = Durability::PowerLoss;
    summarize(&mut run);
    let said = answer(&run);
    assert!(!said.headline.contains("kafka"), "{}", said.headline);
    let kafka =
        said.details.iter().find(|text| text.starts_with("kafka, whose acknowledgements survive a loss of"));
    assert!(kafka.is_some(), "{:?}", said.details);
}

#[test]
fn what_the_harness_limited_is_not_ranked_and_who_fell_behind_is_named() {
    let (mut run, _) = sample::raw(3);
    for trial in &mut run.subjects[1].trials {
        trial.phases[1].load_verdict = LoadVerdict::GeneratorLimited;
        trial.phases[3].load_verdict = LoadVerdict::GeneratorLimited;
    }
    run.subjects[3].trials[0].phases[2].load_verdict = LoadVerdict::OfferedRateNotReached;
    summarize(&mut run);
    let said = answer(&run);
    assert!(said.headline.contains("With 256 in flight kafka carries 3."), "{}", said.headline);
    assert!(said.details.contains(&"composite did not keep up at 10,000 messages/s.".to_owned()), "{said:?}");
}

#[test]
fn one_subject_is_described_and_none_is_nothing() {
    let (mut run, _) = sample::raw(3);
    run.subjects.drain(2..);
    run.subjects.remove(0);
    summarize(&mut run);
    let headline = answer(&run).headline;
    assert!(headline.starts_with("nats answers within "), "{headline}");
    run.subjects.clear();
    assert_eq!(answer(&run).headline, "Nothing was measured.");
}
