//! The sequential model of one key: a register that is written, read, and compared and set.

use std::collections::HashMap;

/// A value, as a number within one key's history; 0 is "no such key".
pub(super) type Value = u32;

/// Numbers values.
#[derive(Debug, Default)]
pub(super) struct Values(HashMap<String, Value>);

impl Values {
    pub(super) fn of(&mut self, text: Option<&str>) -> Value {
        let Some(text) = text else { return 0 };
        if let Some(&known) = self.0.get(text) {
            return known;
        }
        let next = u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX);
        self.0.insert(text.to_owned(), next);
        next
    }
}

/// What an operation does to the register, or says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Write(Value),
    Read(Value),
    /// A compare-and-set that succeeded.
    Swapped {
        expected: Value,
        new: Value,
    },
    /// One that did not.
    Kept {
        expected: Value,
    },
    /// One of which nobody knows.
    MaySwap {
        expected: Value,
        new: Value,
    },
}

impl Effect {
    /// The state after it; nothing if it cannot happen in `state`.
    pub(super) fn apply(self, state: Value) -> Option<Value> {
        match self {
            Self::Write(value) => Some(value),
            Self::Read(value) => (state == value).then_some(state),
            Self::Swapped { expected, new } => (state == expected).then_some(new),
            Self::Kept { expected } => (state != expected).then_some(state),
            Self::MaySwap { expected, new } => Some(if state == expected { new } else { state }),
        }
    }

    /// The value it leaves behind, if it may leave one.
    pub(super) fn written(self) -> Option<Value> {
        match self {
            Self::Write(value) => Some(value),
            Self::Swapped { new, .. } | Self::MaySwap { new, .. } => Some(new),
            Self::Read(_) | Self::Kept { .. } => None,
        }
    }
}

/// One operation on the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) start: u64,
    /// `u64::MAX` when it may still happen.
    pub(super) end: u64,
    pub(super) revision: Option<i64>,
    pub(super) effect: Effect,
}
