//! The harness against liars: every lie is caught with its exact count, and the honest queue has zeros.

#[path = "liars/common.rs"]
mod common;
#[path = "liars/liar.rs"]
#[expect(dead_code, reason = "the lie about time has a test program of its own")]
mod liar;

use common::trial;
use liar::Lie;
use queuebench_reports::record::{Delivery, DeliveryVerdict};

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
