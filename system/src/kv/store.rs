//! The state: keys with their history, as a plain data structure that does no I/O.
//!
//! An empty store is at revision 1; every transaction that changes at least one key adds exactly one. All
//! maps are persistent trees: [`Store::clone`] is a handful of pointer copies and stays as it is while the
//! original goes on, which is how snapshots are taken. Bounds: history grows until it is compacted, and the
//! quota alarm stops writes; the answers of the last [`REMEMBERED`] commands with an id are kept.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use prost::Message;

use super::command::{
    Action, Answer, Command, Compare, Delete, Operation, Outcome, Put, Refusal, Relation, Step, Target, Txn,
};

/// Commands with an id that are remembered, to be answered again instead of applied again.
pub const REMEMBERED: usize = 65_536;
/// What a stored version costs beside key and value, estimated.
const VERSION_BYTES: u64 = 256;

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Revision of this change.
    pub mod_revision: i64,
    /// Revision that created the key.
    pub create_revision: i64,
    /// Changes since creation, this one included; 0 for a deletion.
    pub version: i64,
    /// The value; none for a deletion.
    pub value: Option<Bytes>,
}

/// A key as it was at the revision asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision that created the key.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Changes since creation.
    pub version: i64,
}

/// Why a revision cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// Its history is gone.
    #[error("required revision has been compacted; the oldest that can be read is {0}")]
    Compacted(i64),
    /// It does not exist yet.
    #[error("required revision is a future revision; the store is at {0}")]
    Future(i64),
}

/// Versions of one key, oldest first.
pub(super) type History = Arc<Vec<Version>>;

/// The whole state.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) no_space: bool,
    pub(super) keys: OrdMap<Bytes, History>,
    /// Every change in order, since the last compaction: what compaction must look at.
    pub(super) changes: Vector<(i64, Bytes)>,
    pub(super) answers: OrdMap<Bytes, Bytes>,
    pub(super) answer_order: Vector<Bytes>,
    pub(super) bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            no_space: false,
            keys: OrdMap::new(),
            changes: Vector::new(),
            answers: OrdMap::new(),
            answer_order: Vector::new(),
            bytes: 0,
        }
    }
}

fn cost(key: &Bytes, version: &Version) -> u64 {
    VERSION_BYTES + key.len() as u64 + version.value.as_ref().map_or(0, |value| value.len() as u64)
}

/// The bounds that `key` and `end` mean together, as in etcd: no end is one key, a zero byte is no end.
fn bounds(key: &Bytes, end: &Bytes) -> (Bound<Bytes>, Bound<Bytes>) {
    let from = Bound::Included(key.clone());
    match &end[..] {
        [] => (from, Bound::Included(key.clone())),
        [0] => (from, Bound::Unbounded),
        _ => (from, Bound::Excluded(end.clone())),
    }
}

/// The end of the range of all keys that begin with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

impl Store {
    /// Current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Lowest revision whose history is whole.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Estimated size of keys, values and history.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the quota alarm is raised.
    #[must_use]
    pub fn no_space(&self) -> bool {
        self.no_space
    }

    /// The key as it is now.
    #[must_use]
    pub fn get(&self, key: &Bytes) -> Option<KeyValue> {
        self.at(key, self.keys.get(key)?, self.revision)
    }

    fn at(&self, key: &Bytes, history: &History, revision: i64) -> Option<KeyValue> {
        let version = history.iter().rfind(|version| version.mod_revision <= revision)?;
        Some(KeyValue {
            key: key.clone(),
            value: version.value.clone()?,
            create_revision: version.create_revision,
            mod_revision: version.mod_revision,
            version: version.version,
        })
    }

    /// Keys from `key` to before `end` (see [`Delete::end`]) at `revision` (0: now), in key order, at most
    /// `limit` (0: all).
    ///
    /// # Errors
    /// When that revision is compacted or does not exist yet.
    pub fn range(
        &self,
        key: &Bytes,
        end: &Bytes,
        revision: i64,
        limit: usize,
    ) -> Result<Vec<KeyValue>, RevisionError> {
        let revision = if revision <= 0 { self.revision } else { revision };
        if revision > self.revision {
            return Err(RevisionError::Future(self.revision));
        }
        if revision < self.compacted {
            return Err(RevisionError::Compacted(self.compacted));
        }
        let (from, to) = bounds(key, end);
        if let (Bound::Included(from), Bound::Excluded(to)) = (&from, &to)
            && from >= to
        {
            return Ok(Vec::new());
        }
        let limit = if limit == 0 { usize::MAX } else { limit };
        let found = self.keys.range::<_, Bytes>((from, to));
        Ok(found.filter_map(|(key, history)| self.at(key, history, revision)).take(limit).collect())
    }

    /// Applies one command.
    pub fn apply(&mut self, command: Bytes) -> Bytes {
        let Ok(command) = Command::decode(command) else {
            return self.refused(Refusal::Malformed).encode_to_vec().into();
        };
        let id = &command.request_id;
        if let Some(answer) = self.answers.get(id) {
            return answer.clone();
        }
        let answer = match &command.action {
            Some(Action::Txn(txn)) => self.txn(txn),
            Some(Action::Compact(compact)) => self.compact(compact.revision),
            Some(Action::Alarm(alarm)) => {
                self.no_space = alarm.no_space;
                self.done()
            }
            None => self.refused(Refusal::Malformed),
        };
        // A refusal for lack of space may well succeed later under the same id.
        let lasting = answer.refusal() != Refusal::NoSpace;
        let answer = Bytes::from(answer.encode_to_vec());
        if lasting && !id.is_empty() {
            self.remember(Bytes::copy_from_slice(id), answer.clone());
        }
        answer
    }

    pub(super) fn remember(&mut self, id: Bytes, answer: Bytes) {
        if self.answer_order.len() >= REMEMBERED
            && let Some(oldest) = self.answer_order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.answer_order.push_back(id.clone());
        self.answers.insert(id, answer);
    }

    fn done(&self) -> Answer {
        Answer { revision: self.revision, succeeded: true, ..Answer::default() }
    }

    fn refused(&self, refusal: Refusal) -> Answer {
        Answer { revision: self.revision, refusal: refusal.into(), ..Answer::default() }
    }

    fn txn(&mut self, txn: &Txn) -> Answer {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let operations = if succeeded { &txn.success } else { &txn.failure };
        let puts = |operation: &Operation| matches!(&operation.step, Some(Step::Put(_)));
        if self.no_space && operations.iter().any(puts) {
            return self.refused(Refusal::NoSpace);
        }
        let empty_key = |operation: &Operation| match &operation.step {
            Some(Step::Put(put)) => put.key.is_empty(),
            Some(Step::Delete(delete)) => delete.key.is_empty(),
            None => true,
        };
        if operations.iter().any(empty_key) {
            return self.refused(Refusal::Malformed);
        }
        let revision = self.revision + 1;
        let mut changed = false;
        let mut outcomes = Vec::with_capacity(operations.len());
        for operation in operations {
            let outcome = match &operation.step {
                Some(Step::Put(put)) => self.put(put, revision),
                Some(Step::Delete(delete)) => self.delete(delete, revision),
                None => Outcome::default(),
            };
            changed |= outcome.version > 0 || outcome.deleted > 0;
            outcomes.push(outcome);
        }
        if changed {
            self.revision = revision;
        }
        Answer { revision: self.revision, succeeded, refusal: Refusal::None.into(), outcomes }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let stored = self.get(&compare.key);
        let ordering = match compare.target() {
            Target::Value => match &stored {
                Some(stored) => stored.value.cmp(&compare.value),
                None => return false,
            },
            Target::Version => stored.map_or(0, |kv| kv.version).cmp(&compare.number),
            Target::Create => stored.map_or(0, |kv| kv.create_revision).cmp(&compare.number),
            Target::Mod => stored.map_or(0, |kv| kv.mod_revision).cmp(&compare.number),
        };
        match compare.relation() {
            Relation::Equal => ordering.is_eq(),
            Relation::Greater => ordering.is_gt(),
            Relation::Less => ordering.is_lt(),
            Relation::NotEqual => ordering.is_ne(),
        }
    }

    fn push(&mut self, key: &Bytes, version: Version) {
        self.bytes += cost(key, &version);
        let revision = version.mod_revision;
        let key = if let Some((stored, history)) = self.keys.get_key_value(key) {
            let stored = stored.clone();
            let mut history = history.clone();
            Arc::make_mut(&mut history).push(version);
            self.keys.insert(stored.clone(), history);
            stored
        } else {
            // Own copies: what was decoded shares its buffer with a whole network frame or log segment.
            let key = Bytes::copy_from_slice(key);
            self.keys.insert(key.clone(), Arc::new(vec![version]));
            key
        };
        self.changes.push_back((revision, key));
    }

    fn put(&mut self, put: &Put, revision: i64) -> Outcome {
        let before = self.keys.get(&put.key).and_then(|history| history.last()).filter(|v| v.value.is_some());
        let (create_revision, version) =
            before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
        let value = Some(Bytes::copy_from_slice(&put.value));
        self.push(&put.key, Version { mod_revision: revision, create_revision, version, value });
        Outcome { version, deleted: 0 }
    }

    fn delete(&mut self, delete: &Delete, revision: i64) -> Outcome {
        let (from, to) = bounds(&delete.key, &delete.end);
        if let (Bound::Included(from), Bound::Excluded(to)) = (&from, &to)
            && from >= to
        {
            return Outcome::default();
        }
        let alive = |history: &History| history.last().is_some_and(|version| version.value.is_some());
        let found = self.keys.range::<_, Bytes>((from, to)).filter(|(_, history)| alive(history));
        let found: Vec<Bytes> = found.map(|(key, _)| key.clone()).collect();
        for key in &found {
            self.push(key, Version { mod_revision: revision, create_revision: 0, version: 0, value: None });
        }
        Outcome { version: 0, deleted: i64::try_from(found.len()).unwrap_or(i64::MAX) }
    }

    fn compact(&mut self, revision: i64) -> Answer {
        if revision > self.revision {
            return self.refused(Refusal::Future);
        }
        if revision <= self.compacted && self.compacted > 0 {
            return self.refused(Refusal::Compacted);
        }
        self.compacted = revision;
        while self.changes.front().is_some_and(|(changed, _)| *changed <= revision) {
            if let Some((_, key)) = self.changes.pop_front() {
                self.compact_key(&key, revision);
            }
        }
        self.done()
    }

    fn compact_key(&mut self, key: &Bytes, revision: i64) {
        let Some(history) = self.keys.get(key) else { return };
        let newest = history.iter().rposition(|version| version.mod_revision <= revision);
        let Some(newest) = newest else { return };
        let gone = newest + usize::from(history[newest].value.is_none());
        if gone == 0 {
            return;
        }
        self.bytes -= history[..gone].iter().map(|version| cost(key, version)).sum::<u64>();
        let kept = history[gone..].to_vec();
        if kept.is_empty() {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.clone(), Arc::new(kept));
        }
    }
}

#[cfg(test)]
mod tests;
