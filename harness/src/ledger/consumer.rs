//! What one consumer saw.

use serde::{Deserialize, Serialize};

use super::SeqSet;

/// Receipts of one consumer.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConsumerLedger {
    group: u16,
    #[serde(default)]
    topic: u16,
    /// By producer number.
    producers: Vec<FromProducer>,
    corrupted: u64,
    stray: u64,
    reordered: u64,
    /// Of these, redelivered ones.
    #[serde(default)]
    reordered_redelivered: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct FromProducer {
    seen: SeqSet,
    duplicates: u64,
    /// Highest sequence seen plus one, by key. Only needed while receiving.
    #[serde(skip)]
    next_by_key: Vec<u64>,
}

impl ConsumerLedger {
    /// A consumer of `group`, receiving from `producers` producers that use `keys` keys.
    pub fn new(group: u16, producers: u16, keys: u32) -> Self {
        Self::of_topic(0, group, producers, keys, |_| true)
    }

    /// A consumer of `group` in one of several topics, to which only those producers send of whom `sends`
    /// says so. A message of another one has strayed into the topic.
    pub fn of_topic(topic: u16, group: u16, producers: u16, keys: u32, sends: impl Fn(u16) -> bool) -> Self {
        // Without room for any key, every key of a producer is unknown here.
        let keys = |producer| if sends(producer) { keys.max(1) as usize } else { 0 };
        let producers = (0..producers)
            .map(|producer| FromProducer { next_by_key: vec![0; keys(producer)], ..FromProducer::default() })
            .collect();
        Self { group, topic, producers, corrupted: 0, stray: 0, reordered: 0, reordered_redelivered: 0 }
    }

    /// A whole message of this trial; true at its first receipt. A repeated receipt counts as duplicated, not
    /// as reordered. A producer or key that the plan does not have means the envelope is not ours after all:
    /// stray. `redelivered`, asked of a late one only, is whether the subject says that it was, or may have been,
    /// on its way before.
    pub fn receive(
        &mut self,
        producer: u16,
        key: u32,
        sequence: u64,
        redelivered: impl FnOnce() -> bool,
    ) -> bool {
        let Some(from) = self.producers.get_mut(usize::from(producer)) else {
            self.stray += 1;
            return false;
        };
        let Some(next) = from.next_by_key.get_mut(key as usize) else {
            self.stray += 1;
            return false;
        };
        if !from.seen.insert(sequence) {
            from.duplicates += 1;
            return false;
        }
        if sequence < *next {
            self.reordered += 1;
            self.reordered_redelivered += u64::from(redelivered());
        } else {
            *next = sequence + 1;
        }
        true
    }

    /// A message whose checksum is wrong.
    pub fn corrupted_one(&mut self) {
        self.corrupted += 1;
    }

    /// A message that is not of this trial.
    pub fn stray_one(&mut self) {
        self.stray += 1;
    }

    /// Which group it consumed for.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// Which topic it consumed.
    pub fn topic(&self) -> u16 {
        self.topic
    }

    /// Distinct sequences of a producer.
    pub fn seen_of(&self, producer: u16) -> Option<&SeqSet> {
        self.producers.get(usize::from(producer)).map(|from| &from.seen)
    }

    /// Repeated receipts from a producer.
    pub fn duplicates_of(&self, producer: u16) -> u64 {
        self.producers.get(usize::from(producer)).map_or(0, |from| from.duplicates)
    }

    /// Receipts below the highest sequence seen of their producer and key.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Of the [reordered](Self::reordered), those that the subject had to deliver again.
    pub fn reordered_redelivered(&self) -> u64 {
        self.reordered_redelivered
    }

    /// Messages whose checksum was wrong.
    pub fn corrupted(&self) -> u64 {
        self.corrupted
    }

    /// Messages that are not of this trial.
    pub fn stray(&self) -> u64 {
        self.stray
    }
}
