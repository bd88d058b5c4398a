//! What each worker did, small enough to keep all of it in memory until the load is over.

use super::answer::{Answer, FOREIGN, Failure, Seen, ValueId};
use crate::clock::Nanos;
use crate::consistency::history::{Entry, Kind, Outcome};

/// Operations that a worker records; then the history is incomplete and proves nothing. 72 bytes each.
const RECORDS_MAX: usize = 4_000_000;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) lane: u32,
    pub(super) key: u32,
    pub(super) kind: Kind,
    pub(super) outcome: Outcome,
    pub(super) argument: Option<ValueId>,
    pub(super) expected: Option<ValueId>,
    pub(super) seen: Option<Seen>,
    pub(super) revision: Option<i64>,
    pub(super) start: Nanos,
    pub(super) end: Nanos,
}

impl Record {
    /// What an answer makes of an operation.
    pub(super) fn settle(&mut self, answer: &Result<Answer, Failure>) {
        match answer {
            Ok(Answer::Written(revision)) => {
                self.outcome = Outcome::Ok;
                self.revision = Some(*revision);
            }
            Ok(Answer::Conflict) => self.outcome = Outcome::Conflict,
            Ok(Answer::Read(seen)) => {
                self.outcome = Outcome::Ok;
                self.seen = *seen;
                self.revision = seen.map(|seen| seen.revision);
            }
            Ok(Answer::Ranged) => self.outcome = Outcome::Ok,
            Err(Failure::Refused(_) | Failure::Elsewhere) => self.outcome = Outcome::Refused,
            Err(Failure::Unknown(_)) => self.outcome = Outcome::Unknown,
        }
    }

    /// As a line of the history. `process` is unique among the workers' lanes.
    pub(super) fn entry(&self, process: u64, key: &str) -> Entry {
        let text = |id: ValueId| if id == FOREIGN { "foreign".to_owned() } else { format!("{id:x}") };
        Entry {
            process,
            operation: self.kind,
            key: key.to_owned(),
            argument: self.argument.map(text),
            expected: self.expected.map(text),
            outcome: self.outcome,
            value: self.seen.map(|seen| text(seen.value)),
            revision: self.revision,
            start: self.start,
            end: (self.outcome != Outcome::Unknown).then_some(self.end),
        }
    }
}

/// One worker's records.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) records: Vec<Record>,
    /// Operations that there was no room for.
    pub(super) dropped: u64,
}

impl Recorder {
    pub(super) fn keep(&mut self, record: Record) {
        if self.records.len() < RECORDS_MAX {
            self.records.push(record);
        } else {
            self.dropped += 1;
        }
    }
}
