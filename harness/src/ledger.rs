//! What was acknowledged and what arrived, and what that proves.
//!
//! Each producer keeps the fate of its sequences ([`ProducerLedger`]), each consumer what it saw
//! ([`ConsumerLedger`]); nothing is shared while the load runs. [`Ledger::judge`] joins them afterwards.
//! A sequence costs one bit per set ([`SeqSet`]), so 100 million messages stay below 40 MB.

use std::collections::{BTreeMap, BTreeSet};

use queuebench_reports::record::{Delivery, DeliveryVerdict, Promise};
use queuebench_system::queue;
use serde::{Deserialize, Serialize};

mod consumer;
mod producer;
mod seq_set;

pub use consumer::ConsumerLedger;
pub use producer::ProducerLedger;
pub use seq_set::SeqSet;

/// Both sides of a trial, or of one shard of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// By producer number, unique in the trial.
    pub producers: BTreeMap<u16, ProducerLedger>,
    /// In any order; each names its group.
    pub consumers: Vec<ConsumerLedger>,
    /// The drain deadline passed with messages outstanding.
    pub drain_deadline_passed: bool,
}

impl Ledger {
    /// Joins the ledger of another shard of the same trial.
    ///
    /// # Errors
    /// Names the producer that both claim.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        for (id, producer) in other.producers {
            if self.producers.insert(id, producer).is_some() {
                return Err(format!("producer {id} is in two shards"));
            }
        }
        self.consumers.extend(other.consumers);
        self.drain_deadline_passed |= other.drain_deadline_passed;
        Ok(())
    }

    /// What is promised to a load with or without keys: a backend may spread messages without a key as it
    /// likes, so no order is promised to them.
    pub fn promise_to(has_keys: bool, promise: queue::Promise) -> queue::Promise {
        queue::Promise { ordered_per_key: promise.ordered_per_key && has_keys, ..promise }
    }

    /// Counts every message by fate and holds it against `promise`. Every one of `groups` consumer groups
    /// owes all acknowledged messages; order is held against what is promised to that many consumers.
    pub fn judge(&self, promise: queue::Promise, groups: u16) -> Delivery {
        let seats = self.consumers.iter().map(|c| (c.topic(), c.group()));
        let alone = seats.clone().collect::<BTreeSet<_>>().len() == seats.count();
        let promise = queue::Promise {
            ordered_per_key: promise.ordered_per_key && (alone || promise.ordered_among_consumers),
            ..promise
        };
        let mut lost = 0;
        let mut received = 0;
        let mut duplicated = 0;
        let mut resurrected = 0;
        for group in 0..groups {
            for (&id, producer) in &self.producers {
                let mut union = SeqSet::default();
                for consumer in self.consumers.iter().filter(|c| c.group() == group) {
                    duplicated += consumer.duplicates_of(id);
                    if let Some(seen) = consumer.seen_of(id) {
                        duplicated += union.absorb(seen);
                    }
                }
                received += union.len();
                lost += producer.acknowledged().len_without(&union);
                resurrected += producer.rejected().len_in(&union);
            }
        }
        let sum = |f: fn(&ConsumerLedger) -> u64| self.consumers.iter().map(f).sum::<u64>();
        let of = |f: fn(&ProducerLedger) -> u64| self.producers.values().map(f).sum::<u64>();
        let mut delivery = Delivery {
            attempted: of(ProducerLedger::attempted),
            acknowledged: of(|p| p.acknowledged().len()),
            rejected: of(|p| p.rejected().len()),
            unknown: of(ProducerLedger::unknown),
            received,
            lost,
            duplicated,
            reordered: sum(ConsumerLedger::reordered),
            reordered_redelivered: sum(ConsumerLedger::reordered_redelivered),
            corrupted: sum(ConsumerLedger::corrupted),
            stray: sum(ConsumerLedger::stray),
            resurrected,
            drain_deadline_passed: self.drain_deadline_passed,
            promise: Promise {
                delivery: match promise.delivery {
                    queue::DeliveryPromise::AtMostOnce => "at-most-once",
                    queue::DeliveryPromise::AtLeastOnce => "at-least-once",
                    queue::DeliveryPromise::ExactlyOnce => "exactly-once",
                }
                .to_owned(),
                ordered_per_key: promise.ordered_per_key,
            },
            verdict: DeliveryVerdict::Kept,
            violations: Vec::new(),
        };
        delivery.violations = violations(&delivery, promise);
        if !delivery.violations.is_empty() {
            delivery.verdict = DeliveryVerdict::Violated;
        }
        delivery
    }
}

/// Each broken promise in a sentence.
fn violations(delivery: &Delivery, promise: queue::Promise) -> Vec<String> {
    let mut broken = Vec::new();
    let mut check = |count: u64, applies: bool, what: &str| {
        if applies && count > 0 {
            broken.push(format!("{count} {what}"));
        }
    };
    let kind = promise.delivery;
    check(
        delivery.lost,
        kind != queue::DeliveryPromise::AtMostOnce,
        "acknowledged messages were never received",
    );
    check(
        delivery.duplicated,
        kind != queue::DeliveryPromise::AtLeastOnce,
        "messages arrived more than once",
    );
    // No queue promises its order to what it must deliver again.
    let reordered = delivery.reordered.saturating_sub(delivery.reordered_redelivered);
    check(reordered, promise.ordered_per_key, "messages arrived after a later one of their key");
    check(delivery.corrupted, true, "messages arrived altered");
    check(delivery.resurrected, true, "messages arrived although they had been refused");
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISE: queue::Promise = queue::Promise {
        delivery: queue::DeliveryPromise::AtLeastOnce,
        ordered_per_key: true,
        ordered_among_consumers: true,
        durability: queue::Durability::Volatile,
    };

    fn ledger(acknowledged: &[u64], received: &[&[u64]]) -> Ledger {
        let mut producer = ProducerLedger::default();
        for _ in 0..10 {
            producer.attempt();
        }
        for &sequence in acknowledged {
            producer.acknowledge(sequence);
        }
        let consumers = received
            .iter()
            .map(|sequences| {
                let mut consumer = ConsumerLedger::new(0, 1, 1);
                for &sequence in *sequences {
                    consumer.receive(0, 0, sequence, || false);
                }
                consumer
            })
            .collect();
        Ledger { producers: BTreeMap::from([(0, producer)]), consumers, drain_deadline_passed: false }
    }

    #[test]
    fn all_received_keeps_the_promise() {
        let delivery = ledger(&[0, 1, 2], &[&[0, 2], &[1]]).judge(PROMISE, 1);
        assert_eq!((delivery.lost, delivery.duplicated, delivery.reordered), (0, 0, 0));
        assert_eq!(delivery.verdict, DeliveryVerdict::Kept);
    }

    #[test]
    fn an_acknowledged_message_that_never_came_is_lost() {
        let delivery = ledger(&[0, 1, 2], &[&[0, 2]]).judge(PROMISE, 1);
        assert_eq!(delivery.lost, 1);
        assert_eq!(delivery.violations, ["1 acknowledged messages were never received"]);
    }

    #[test]
    fn a_message_without_an_answer_is_not_lost() {
        let delivery = ledger(&[0], &[&[0]]).judge(PROMISE, 1);
        assert_eq!((delivery.attempted, delivery.acknowledged, delivery.lost), (10, 1, 0));
    }

    #[test]
    fn duplicates_count_within_and_across_consumers() {
        let delivery = ledger(&[0, 1], &[&[0, 1, 1], &[0]]).judge(PROMISE, 1);
        assert_eq!((delivery.received, delivery.duplicated), (2, 2));
        // At least once allows it; exactly once does not.
        assert_eq!(delivery.verdict, DeliveryVerdict::Kept);
        let strict = queue::Promise { delivery: queue::DeliveryPromise::ExactlyOnce, ..PROMISE };
        assert_eq!(ledger(&[0], &[&[0, 0]]).judge(strict, 1).verdict, DeliveryVerdict::Violated);
    }

    #[test]
    fn at_most_once_may_lose() {
        let loose = queue::Promise { delivery: queue::DeliveryPromise::AtMostOnce, ..PROMISE };
        let delivery = ledger(&[0, 1], &[&[0]]).judge(loose, 1);
        assert_eq!((delivery.lost, delivery.verdict), (1, DeliveryVerdict::Kept));
    }

    #[test]
    fn order_counts_only_where_it_is_promised() {
        let delivery = ledger(&[0, 1], &[&[1, 0]]).judge(PROMISE, 1);
        assert_eq!((delivery.reordered, delivery.verdict), (1, DeliveryVerdict::Violated));
        let unordered = queue::Promise { ordered_per_key: false, ..PROMISE };
        assert_eq!(ledger(&[0, 1], &[&[1, 0]]).judge(unordered, 1).verdict, DeliveryVerdict::Kept);
    }

    #[test]
    fn what_was_delivered_again_may_come_late_and_is_counted() {
        let mut ledger = ledger(&[0, 1, 2], &[&[2]]);
        assert!(ledger.consumers[0].receive(0, 0, 0, || true));
        let delivery = ledger.judge(PROMISE, 1);
        assert_eq!((delivery.reordered, delivery.reordered_redelivered), (1, 1));
        assert_eq!(delivery.violations, ["1 acknowledged messages were never received"]);
        assert!(ledger.consumers[0].receive(0, 0, 1, || false));
        let violations = ledger.judge(PROMISE, 1).violations;
        assert_eq!(violations, ["1 messages arrived after a later one of their key"]);
    }

    #[test]
    fn no_order_is_promised_to_messages_without_keys() {
        assert_eq!(Ledger::promise_to(true, PROMISE), PROMISE);
        let judged = ledger(&[0, 1], &[&[1, 0]]).judge(Ledger::promise_to(false, PROMISE), 1);
        assert_eq!((judged.reordered, judged.verdict), (1, DeliveryVerdict::Kept));
    }

    #[test]
    fn an_order_promised_to_one_consumer_only_binds_with_one() {
        let promise = queue::Promise { ordered_among_consumers: false, ..PROMISE };
        assert_eq!(ledger(&[0, 1], &[&[1, 0]]).judge(promise, 1).verdict, DeliveryVerdict::Violated);
        assert_eq!(ledger(&[0, 1, 2], &[&[1, 0], &[2]]).judge(promise, 1).verdict, DeliveryVerdict::Kept);
    }

    #[test]
    fn every_group_owes_every_message() {
        let mut ledger = ledger(&[0, 1], &[&[0, 1]]);
        let mut second = ConsumerLedger::new(1, 1, 1);
        second.receive(0, 0, 0, || false);
        ledger.consumers.push(second);
        let delivery = ledger.judge(PROMISE, 2);
        assert_eq!((delivery.received, delivery.lost), (3, 1));
    }

    #[test]
    fn with_one_consumer_a_topic_each_is_alone_and_a_message_in_a_wrong_topic_is_stray() {
        let mut ledger = ledger(&[0, 1], &[]);
        let mut first = ConsumerLedger::of_topic(0, 0, 2, 1, |producer| producer == 0);
        let mut second = ConsumerLedger::of_topic(1, 0, 2, 1, |producer| producer == 1);
        assert!(first.receive(0, 0, 1, || false) && first.receive(0, 0, 0, || false));
        assert!(!second.receive(0, 0, 1, || false), "producer 0 does not send to topic 1");
        ledger.consumers.extend([first, second]);
        let promise = queue::Promise { ordered_among_consumers: false, ..PROMISE };
        let delivery = ledger.judge(promise, 1);
        assert_eq!((delivery.lost, delivery.reordered, delivery.stray), (0, 1, 1));
        assert_eq!(delivery.verdict, DeliveryVerdict::Violated, "the promise to a lone consumer binds");
    }

    #[test]
    fn a_refused_message_that_arrives_is_a_broken_word() {
        let mut ledger = ledger(&[0], &[&[0, 1]]);
        ledger.producers.get_mut(&0).unwrap().reject(1);
        assert_eq!(
            ledger.judge(PROMISE, 1).violations,
            ["1 messages arrived although they had been refused"]
        );
    }

    #[test]
    fn shards_merge_to_the_same_verdict_and_refuse_a_common_producer() {
        let mut left = ledger(&[0, 1], &[]);
        let right = Ledger { producers: BTreeMap::new(), ..ledger(&[], &[&[0]]) };
        left.merge(right).unwrap();
        assert_eq!(left.judge(PROMISE, 1).lost, 1);
        assert!(left.merge(ledger(&[], &[])).unwrap_err().contains("producer 0"));
    }

    #[test]
    fn a_ledger_survives_its_file() {
        let before = ledger(&[0, 5, 9], &[&[0, 9, 9], &[5]]);
        let text = serde_json::to_string(&before).unwrap();
        let after: Ledger = serde_json::from_str(&text).unwrap();
        assert_eq!(before.judge(PROMISE, 1), after.judge(PROMISE, 1));
    }
}
