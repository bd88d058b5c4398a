//! What the ledger counted and proved.

use serde::{Deserialize, Serialize};

/// Every message of a trial, by fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Messages the harness tried to publish.
    pub attempted: u64,
    /// Acknowledged by the subject.
    pub acknowledged: u64,
    /// Certainly refused, by the subject or its client.
    pub rejected: u64,
    /// Without a clear answer: neither lost nor failed.
    pub unknown: u64,
    /// Distinct messages received, in all groups.
    pub received: u64,
    /// Acknowledged and never received, summed over groups.
    pub lost: u64,
    /// Extra receipts.
    pub duplicated: u64,
    /// Receipts below the highest sequence that the consumer had seen of that producer and key.
    pub reordered: u64,
    /// Of the reordered, those that the subject said it had delivered, or may have delivered, before: no
    /// promise of order binds them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reordered_redelivered: u64,
    /// Receipts whose checksum was wrong.
    pub corrupted: u64,
    /// Receipts that are not of this run.
    pub stray: u64,
    /// Received although the subject had refused them; a subject that does this breaks its word.
    #[serde(default)]
    pub resurrected: u64,
    /// Still not received when the drain deadline passed, so `lost` may be "late".
    #[serde(default)]
    pub drain_deadline_passed: bool,
    /// What the subject's settings promise.
    pub promise: Promise,
    /// Whether the promise was kept.
    pub verdict: DeliveryVerdict,
    /// Each broken promise in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a subject's settings promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// `at-most-once`, `at-least-once`, `exactly-once`.
    pub delivery: String,
    /// Messages of one producer and key arrive in the order in which they were sent.
    pub ordered_per_key: bool,
}

/// Whether the promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryVerdict {
    /// Nothing promised was broken.
    Kept,
    /// Something promised was broken.
    Violated,
}
