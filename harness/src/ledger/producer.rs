//! The fate of one producer's sequences.

use serde::{Deserialize, Serialize};

use super::SeqSet;

/// Acknowledged, rejected and unknown sequences of one producer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ProducerLedger {
    attempted: u64,
    acknowledged: SeqSet,
    rejected: SeqSet,
}

impl ProducerLedger {
    /// Takes the next sequence.
    pub fn attempt(&mut self) -> u64 {
        self.attempted += 1;
        self.attempted - 1
    }

    /// Says that `attempted` sequences were taken, where they are counted elsewhere.
    pub fn set_attempted(&mut self, attempted: u64) {
        self.attempted = attempted;
    }

    /// The subject has it.
    pub fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged.insert(sequence);
    }

    /// The subject certainly does not have it.
    pub fn reject(&mut self, sequence: u64) {
        self.rejected.insert(sequence);
    }

    /// How many messages were tried.
    pub fn attempted(&self) -> u64 {
        self.attempted
    }

    /// Those the subject has.
    pub fn acknowledged(&self) -> &SeqSet {
        &self.acknowledged
    }

    /// Those it refused.
    pub fn rejected(&self) -> &SeqSet {
        &self.rejected
    }

    /// How many have no clear answer.
    pub fn unknown(&self) -> u64 {
        self.attempted - self.acknowledged.len() - self.rejected.len()
    }
}
