//! What stores answer, in words that both share.

use bytes::Bytes;

/// A value as it is recorded: unique in a trial, and readable in what is stored.
pub(super) type ValueId = u64;

/// What a read saw of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) value: ValueId,
    pub(super) revision: i64,
}

/// An answer that is not a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A write was done at this revision.
    Written(i64),
    /// A compare found something else.
    Conflict,
    /// A read of one key.
    Read(Option<Seen>),
    /// A read of several.
    Ranged,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Certainly not done; someone else leads.
    Elsewhere,
    /// Certainly not done.
    Refused(String),
    /// May have been done.
    Unknown(String),
}

/// Characters of a value's id.
const ID_LEN: usize = 16;
/// No value has it: stands for bytes that no client of the trial wrote.
pub(super) const FOREIGN: ValueId = u64::MAX;

/// The id in hexadecimal, padded to `head` bytes, then the body.
pub(super) fn encode(id: ValueId, head: usize, body: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(head + body.len());
    value.extend_from_slice(format!("{id:016x}").as_bytes());
    value.resize(head.max(ID_LEN), b'.');
    value.extend_from_slice(body);
    value.into()
}

/// The id of a stored value.
pub(super) fn decode(value: &[u8]) -> ValueId {
    let id = value.get(..ID_LEN).and_then(|id| std::str::from_utf8(id).ok());
    id.and_then(|id| u64::from_str_radix(id, 16).ok()).unwrap_or(FOREIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_itself_and_has_its_size() {
        let value = encode(0xabc, 48, &[0; 16]);
        assert_eq!((value.len(), decode(&value)), (64, 0xabc));
        assert_eq!(decode(b"short"), FOREIGN);
        assert_eq!(decode(&[b'z'; 64]), FOREIGN);
    }
}
