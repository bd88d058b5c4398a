//! The harness against liars: every lie is caught with its exact count, and the honest queue has zeros.

#[path = "liars/liar.rs"]
mod liar;

use std::sync::Arc;
use std::time::Duration;

use liar::{Liar, Lie};
use queuebench::event::Event;
use queuebench::plan::{Plan, Shard};
use queuebench::profile::Profile;
use queuebench::trial::{self, MessageIds, TrialOutcome, TrialSpec};
use queuebench_reports::record::{Delivery, DeliveryVerdict, LoadVerdict};
use tokio_util::sync::CancellationToken;

const PROFILE: &str = r#"
name = "lies"
drain_deadline = "20s"
[workload]
payload = "128B"
producers = 1
consumers = 1
keys = { kind = "uniform", count = 1 }
[[phase]]
name = "steady"
model = "open"
rate = "20k/s"
duration = "1s"
"#;

fn trial(lie: Lie, profile: &str) -> (TrialOutcome, u64) {
    let profile = Arc::new(Profile::parse(profile, "test").expect("the profile is right"));
    let spec = TrialSpec {
        subject: "liar".to_owned(),
        index: 0,
        position: 0,
        profile: Arc::clone(&profile),
        seed: 3,
        shard: Shard::WHOLE,
        trial_id: 99,
        message_ids: MessageIds::Unique,
        embedded: true,
    };
    let plan = Arc::new(Plan::new(&profile, spec.seed, spec.shard).expect("the plan needs no files"));
    let liar = Arc::new(Liar::new(lie));
    let mut ignore = |_: Event| {};
    let outcome = trial::run(&liar, &plan, &spec, &CancellationToken::new(), &mut ignore)
        .expect("the liar never fails");
    (outcome, liar.told())
}

fn caught(lie: Lie) -> (Delivery, u64) {
    let (outcome, told) = trial(lie, PROFILE);
    let delivery = outcome.trial.delivery;
    assert_eq!(delivery.attempted, 20_000, "the whole plan was sent");
    (delivery, told)
}

/// lost, duplicated, reordered, corrupted, stray, resurrected
fn counts(d: &Delivery) -> [u64; 6] {
    [d.lost, d.duplicated, d.reordered, d.corrupted, d.stray, d.resurrected]
}

#[test]
fn an_honest_queue_has_zeros() {
    let (delivery, _) = caught(Lie::Honest);
    assert_eq!(counts(&delivery), [0; 6]);
    assert_eq!((delivery.acknowledged, delivery.received), (20_000, 20_000));
    assert_eq!(delivery.verdict, DeliveryVerdict::Kept);
    assert!(!delivery.drain_deadline_passed);
}

#[test]
fn one_lost_in_ten_thousand_is_found() {
    let (delivery, told) = caught(Lie::Lose { every: 10_000 });
    assert_eq!((told, counts(&delivery)), (2, [2, 0, 0, 0, 0, 0]));
    assert_eq!(delivery.verdict, DeliveryVerdict::Violated);
}

#[test]
fn every_duplicate_is_counted() {
    let (delivery, told) = caught(Lie::Duplicate { every: 777 });
    assert_eq!((told, counts(&delivery)), (25, [0, 25, 0, 0, 0, 0]));
    assert_eq!(delivery.verdict, DeliveryVerdict::Violated);
}

#[test]
fn every_overtaken_message_is_counted() {
    let (delivery, told) = caught(Lie::Reorder { every: 500 });
    assert!(told > 30);
    assert_eq!(counts(&delivery), [0, 0, told, 0, 0, 0]);
    assert_eq!(delivery.verdict, DeliveryVerdict::Violated);
}

#[test]
fn every_flipped_bit_is_counted_and_its_message_is_lost() {
    let (delivery, told) = caught(Lie::Corrupt { every: 1_000 });
    assert_eq!((told, counts(&delivery)), (20, [20, 0, 0, 20, 0, 0]));
    assert_eq!(delivery.verdict, DeliveryVerdict::Violated);
}

#[test]
fn foreign_messages_are_stray_and_no_violation() {
    let (delivery, told) = caught(Lie::Stray { every: 2_000 });
    assert_eq!((told, counts(&delivery)), (10, [0, 0, 0, 0, 10, 0]));
    assert_eq!(delivery.verdict, DeliveryVerdict::Kept);
}

#[test]
fn a_refusal_that_arrives_is_a_broken_word() {
    let (delivery, told) = caught(Lie::Resurrect { every: 4_000 });
    assert_eq!((told, counts(&delivery)), (5, [0, 0, 0, 0, 0, 5]));
    assert_eq!((delivery.rejected, delivery.verdict), (5, DeliveryVerdict::Violated));
}

#[test]
fn an_early_acknowledgement_is_a_loss_when_the_memory_is_gone() {
    let (delivery, _) = caught(Lie::AcknowledgeEarly { held: 37 });
    assert_eq!(counts(&delivery), [37, 0, 0, 0, 0, 0]);
    assert_eq!(delivery.verdict, DeliveryVerdict::Violated);
}

/// A fifth of the messages wait, evenly up to 200 ms: p90 is 100 ms, p95 150 ms, p99 190 ms. Whoever
/// measures from the actual send sees none of it, because nothing is sent late here either.
#[test]
fn a_stall_shows_in_the_percentiles_as_arithmetic_says() {
    let profile = PROFILE.replace("20k/s", "5k/s").replace("\"1s\"", "\"10s\"");
    let stall = Lie::Stall { period: Duration::from_secs(1), length: Duration::from_millis(200) };
    let (outcome, _) = trial(stall, &profile);
    let phase = &outcome.trial.phases[0];
    assert_eq!(phase.response_us.count, 50_000);
    for (is_us, should_us) in [
        (phase.response_us.p90, 100_000.0),
        (phase.response_us.p95, 150_000.0),
        (phase.response_us.p99, 190_000.0),
    ] {
        assert!((is_us / should_us - 1.0_f64).abs() < 0.05, "{is_us} is not within 5 % of {should_us}");
    }
    assert!(
        phase.schedule_lag_us.p50 < 1_000.0,
        "the harness kept its schedule: {:?}",
        phase.schedule_lag_us
    );
    assert_eq!(phase.load_verdict, LoadVerdict::Ok);
    assert_eq!(counts(&outcome.trial.delivery), [0; 6]);
}
