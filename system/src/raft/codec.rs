//! The binary form of log entries, votes and append requests, the same on disk and between peers.
//!
//! All integers are little-endian and fixed in width. Commands are not copied when decoded: they share the
//! buffer they were read into. Membership configurations are rare and travel as JSON inside their entry.
//! Decoding never panics and never allocates more than the input holds.

use bytes::{Buf, BufMut, Bytes};

use super::types::{Command, Entry, LeaderId, LogId, Membership, Payload, Types, Vote};

/// Bytes that do not decode.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The input ends inside a field.
    #[error("input ends inside {0}")]
    Short(&'static str),
    /// A tag byte has no meaning.
    #[error("{field} has the unknown tag {tag}")]
    Tag {
        /// Which field the tag belongs to.
        field: &'static str,
        /// The byte that was read.
        tag: u8,
    },
    /// A membership configuration is not valid JSON.
    #[error("membership configuration does not parse: {0}")]
    Membership(#[from] serde_json::Error),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

fn need(input: &Bytes, bytes: usize, field: &'static str) -> Result<(), CodecError> {
    if input.remaining() < bytes { Err(CodecError::Short(field)) } else { Ok(()) }
}

/// Appends a log id to `out`.
pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    out.put_u64_le(id.leader_id.term);
    out.put_u64_le(id.leader_id.node_id);
    out.put_u64_le(id.index);
}

/// Takes a log id off the front of `input`.
pub(crate) fn get_log_id(input: &mut Bytes) -> Result<LogId, CodecError> {
    need(input, 24, "a log id")?;
    let leader_id = LeaderId { term: input.get_u64_le(), node_id: input.get_u64_le() };
    Ok(LogId { leader_id, index: input.get_u64_le() })
}

/// Appends an optional log id to `out`.
pub(crate) fn put_log_id_option(out: &mut Vec<u8>, id: Option<&LogId>) {
    match id {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(1);
            put_log_id(out, id);
        }
    }
}

/// Takes an optional log id off the front of `input`.
pub(crate) fn get_log_id_option(input: &mut Bytes) -> Result<Option<LogId>, CodecError> {
    need(input, 1, "an optional log id")?;
    match input.get_u8() {
        0 => Ok(None),
        1 => get_log_id(input).map(Some),
        tag => Err(CodecError::Tag { field: "an optional log id", tag }),
    }
}

/// Appends a vote to `out`.
pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

/// Takes a vote off the front of `input`.
pub(crate) fn get_vote(input: &mut Bytes) -> Result<Vote, CodecError> {
    need(input, 17, "a vote")?;
    let leader_id = LeaderId { term: input.get_u64_le(), node_id: input.get_u64_le() };
    Ok(Vote { leader_id, committed: input.get_u8() != 0 })
}

/// Appends an entry to `out`; it reaches to the end of its frame, so the frame must carry the length.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) -> Result<(), CodecError> {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        Payload::Blank => out.put_u8(BLANK),
        Payload::Normal(command) => {
            out.put_u8(NORMAL);
            out.put_slice(&command.0);
        }
        Payload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            serde_json::to_writer(&mut *out, membership)?;
        }
    }
    Ok(())
}

/// Decodes a whole frame as one entry.
pub(crate) fn get_entry(mut input: Bytes) -> Result<Entry, CodecError> {
    let log_id = get_log_id(&mut input)?;
    need(&input, 1, "an entry")?;
    let payload = match input.get_u8() {
        BLANK => Payload::Blank,
        NORMAL => Payload::Normal(Command(input)),
        MEMBERSHIP => Payload::Membership(serde_json::from_slice::<Membership>(&input)?),
        tag => return Err(CodecError::Tag { field: "an entry", tag }),
    };
    Ok(Entry { log_id, payload })
}

/// An append request, as openraft hands it to the network.
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;

/// Appends a whole append request to `out`.
pub(crate) fn put_append(out: &mut Vec<u8>, request: &AppendRequest) -> Result<(), CodecError> {
    put_vote(out, &request.vote);
    put_log_id_option(out, request.prev_log_id.as_ref());
    put_log_id_option(out, request.leader_commit.as_ref());
    for entry in &request.entries {
        let at = out.len();
        out.put_u32_le(0);
        put_entry(out, entry)?;
        let bytes = u32::try_from(out.len() - at - 4).map_err(|_| CodecError::Short("an entry length"))?;
        out[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
    }
    Ok(())
}

/// Decodes a whole frame as one append request.
pub(crate) fn get_append(mut input: Bytes) -> Result<AppendRequest, CodecError> {
    let vote = get_vote(&mut input)?;
    let prev_log_id = get_log_id_option(&mut input)?;
    let leader_commit = get_log_id_option(&mut input)?;
    let mut entries = Vec::new();
    while input.has_remaining() {
        need(&input, 4, "an entry length")?;
        let bytes = input.get_u32_le() as usize;
        need(&input, bytes, "an entry")?;
        entries.push(get_entry(input.split_to(bytes))?);
    }
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::raft::types::Peer;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 7 }, index }
    }

    /// What is put is what is got, for every kind of entry.
    #[test]
    fn append_requests_survive_a_round_trip() {
        let nodes: BTreeMap<u64, Peer> = (1..4).map(|n| (n, Peer { url: format!("http://h:{n}") })).collect();
        let members = Membership::new(vec![(1..3).collect()], nodes).unwrap();
        let request = AppendRequest {
            vote: Vote { leader_id: LeaderId { term: 3, node_id: 9 }, committed: true },
            prev_log_id: Some(log_id(2, 5)),
            leader_commit: None,
            entries: vec![
                Entry { log_id: log_id(3, 6), payload: Payload::Blank },
                Entry {
                    log_id: log_id(3, 7),
                    payload: Payload::Normal(Command(Bytes::from_static(b"x\0y"))),
                },
                Entry { log_id: log_id(3, 8), payload: Payload::Membership(members) },
            ],
        };
        let mut out = Vec::new();
        put_append(&mut out, &request).unwrap();
        let back = get_append(Bytes::from(out)).unwrap();
        assert_eq!(back.vote, request.vote);
        assert_eq!(back.prev_log_id, request.prev_log_id);
        assert_eq!(back.leader_commit, request.leader_commit);
        assert_eq!(back.entries, request.entries);
    }

    proptest! {
        /// Whatever a peer sends, decoding returns.
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = get_append(bytes.clone());
            let _ = get_entry(bytes);
        }
    }
}
