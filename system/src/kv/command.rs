//! What is replicated: commands, and what applying them answers, as protobuf messages.
//!
//! Fields are only ever added, because old logs and snapshots keep old messages. Every write is a
//! [`Txn`]: compares, then one of two lists of operations, all at one revision.

use bytes::Bytes;
use prost::Message;

/// One entry of the replicated log.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Applied at most once among the recent commands with the same id; empty means no id.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// What to do.
    #[prost(oneof = "Action", tags = "2, 3, 4")]
    pub action: Option<Action>,
}

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Action {
    /// Reads and changes keys.
    #[prost(message, tag = "2")]
    Txn(Txn),
    /// Drops history below a revision.
    #[prost(message, tag = "3")]
    Compact(Compact),
    /// Raises or clears the alarm about the quota.
    #[prost(message, tag = "4")]
    Alarm(Alarm),
}

/// If all compares hold, does `success`, else `failure`, atomically.
#[derive(Clone, PartialEq, Message)]
pub struct Txn {
    /// Conditions on the state before.
    #[prost(message, repeated, tag = "1")]
    pub compares: Vec<Compare>,
    /// Done in order when all hold.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Operation>,
    /// Done in order otherwise.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Operation>,
}

/// A condition on one key. An absent key has zero in every field and no value.
#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Which of its fields.
    #[prost(enumeration = "Target", tag = "2")]
    pub target: i32,
    /// How the stored side (left) must relate to the given one (right).
    #[prost(enumeration = "Relation", tag = "3")]
    pub relation: i32,
    /// The given side for numbers.
    #[prost(int64, tag = "4")]
    pub number: i64,
    /// The given side for values.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

/// A field that a compare looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Target {
    /// Changes since creation.
    Version = 0,
    /// Revision of creation.
    Create = 1,
    /// Revision of the last change.
    Mod = 2,
    /// The value.
    Value = 3,
}

/// How two sides relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Relation {
    /// Left = right.
    Equal = 0,
    /// Left > right.
    Greater = 1,
    /// Left < right.
    Less = 2,
    /// Left ≠ right.
    NotEqual = 3,
}

/// A step of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    /// Which step.
    #[prost(oneof = "Step", tags = "1, 2")]
    pub step: Option<Step>,
}

/// A step of a transaction.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Step {
    /// Sets a key.
    #[prost(message, tag = "1")]
    Put(Put),
    /// Removes keys.
    #[prost(message, tag = "2")]
    Delete(Delete),
}

/// Sets `key` to `value`.
#[derive(Clone, PartialEq, Message)]
pub struct Put {
    /// Not empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Removes `key`, or all in `[key, end)` when `end` is not empty.
#[derive(Clone, PartialEq, Message)]
pub struct Delete {
    /// First key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// First key that stays; empty for one key only, a zero byte for all that follow.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// Drops what no read at `revision` or later needs.
#[derive(Clone, PartialEq, Message)]
pub struct Compact {
    /// Lowest revision that stays readable.
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

/// The alarm that stops writes when the quota is used up.
#[derive(Clone, PartialEq, Message)]
pub struct Alarm {
    /// Raised or cleared.
    #[prost(bool, tag = "1")]
    pub no_space: bool,
}

/// What a command answered.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// Revision of the store after the command.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// Whether the compares held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// Why nothing was done, if nothing was.
    #[prost(enumeration = "Refusal", tag = "3")]
    pub refusal: i32,
    /// One per operation of the list that was done.
    #[prost(message, repeated, tag = "4")]
    pub outcomes: Vec<Outcome>,
}

/// What one operation did.
#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    /// Version of the key after a put, 1 when it was created.
    #[prost(int64, tag = "1")]
    pub version: i64,
    /// Keys a delete removed.
    #[prost(int64, tag = "2")]
    pub deleted: i64,
}

/// Why a committed command did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Refusal {
    /// It did.
    None = 0,
    /// The quota alarm is raised.
    NoSpace = 1,
    /// The revision is already compacted.
    Compacted = 2,
    /// The revision does not exist yet.
    Future = 3,
    /// The command does not decode, or breaks a rule that its proposer should have checked.
    Malformed = 4,
}

impl Command {
    /// A transaction without an id.
    #[must_use]
    pub fn txn(txn: Txn) -> Self {
        Self { request_id: Bytes::new(), action: Some(Action::Txn(txn)) }
    }

    /// A put without conditions.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let put = Step::Put(Put { key: key.into(), value: value.into() });
        Self::txn(Txn { success: vec![Operation { step: Some(put) }], ..Txn::default() })
    }

    /// A delete of one key.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>) -> Self {
        let delete = Step::Delete(Delete { key: key.into(), end: Bytes::new() });
        Self::txn(Txn { success: vec![Operation { step: Some(delete) }], ..Txn::default() })
    }

    /// The same with an id that makes it apply once.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<Bytes>) -> Self {
        self.request_id = id.into();
        self
    }

    /// The bytes that are replicated.
    #[must_use]
    pub fn encode_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Estimated cost of this command against the quota, as etcd counts it.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let Some(Action::Txn(txn)) = &self.action else { return 0 };
        let cost = |steps: &[Operation]| -> u64 {
            steps
                .iter()
                .map(|operation| match &operation.step {
                    Some(Step::Put(put)) => 256 + put.key.len() as u64 + put.value.len() as u64,
                    _ => 0,
                })
                .sum()
        };
        cost(&txn.success).max(cost(&txn.failure))
    }
}
