//! One record of the stream.
//!
//! `payload length u32 | crc32c u32 | sequence number u64 | durable below u64 | kind u8 | payload`, little-endian.
//! The checksum covers all that follows it and starts from a secret of the data directory, so that nothing a
//! client stores can look like a record. Sequence numbers count records without a gap; `durable below` says
//! which records were known to be flushed when this one was made, which tells a torn tail (nothing valid
//! after it vouches for it) from damage to what was once durable.

use std::{io, sync::Arc};

use bytes::{Buf, BufMut, Bytes};

use crate::raft::{
    codec,
    disk::DiskFile,
    types::{Command, Entry},
};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 25;
/// Longest payload that is believed.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    Truncate = 4,
    Purge = 5,
}

impl Kind {
    fn of(tag: u8) -> Option<Self> {
        [Self::Entry, Self::Vote, Self::Committed, Self::Truncate, Self::Purge]
            .into_iter()
            .find(|kind| *kind as u8 == tag)
    }
}

/// A record that was read and whose checksum holds.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) durable_below: u64,
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
    /// Bytes from the record's first to its last.
    pub(super) bytes: usize,
}

/// Checksum start value for a data directory.
pub(super) fn seed(store: u64) -> u32 {
    crc32c::crc32c(&store.to_le_bytes())
}

/// Appends a record to `out`; answers where it begins there and how long it is.
pub(super) fn put(
    out: &mut Vec<u8>,
    seed: u32,
    seq: u64,
    durable_below: u64,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>),
) -> io::Result<(usize, u32)> {
    let at = out.len();
    out.put_u64_le(0);
    out.put_u64_le(seq);
    out.put_u64_le(durable_below);
    out.put_u8(kind as u8);
    fill(out);
    let payload = out.len() - at - HEADER_BYTES;
    if payload > PAYLOAD_BYTES_MAX {
        out.truncate(at);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log entry is larger than 64 MiB"));
    }
    let payload = u32::try_from(payload).map_err(io::Error::other)?;
    let crc = crc32c::crc32c_append(seed, &out[at + 8..]);
    out[at..at + 4].copy_from_slice(&payload.to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    Ok((at, u32::try_from(out.len() - at).map_err(io::Error::other)?))
}

/// Reads the record at the front of `input`, if there is a whole one.
pub(super) fn get(input: &Bytes, seed: u32) -> Option<Record> {
    let mut head = input.get(..HEADER_BYTES)?;
    let payload = head.get_u32_le() as usize;
    let crc = head.get_u32_le();
    let (seq, durable_below) = (head.get_u64_le(), head.get_u64_le());
    let kind = Kind::of(head.get_u8())?;
    if payload > PAYLOAD_BYTES_MAX {
        return None;
    }
    let bytes = HEADER_BYTES + payload;
    let covered = input.get(8..bytes)?;
    if crc32c::crc32c_append(seed, covered) != crc {
        return None;
    }
    Some(Record { seq, durable_below, kind, payload: input.slice(HEADER_BYTES..bytes), bytes })
}

/// Where an entry's record lies.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// Reads an entry back, checking its record again.
pub(super) fn read_entry(place: &Place, seed: u32) -> io::Result<Entry> {
    let mut bytes = vec![0; place.bytes as usize];
    place.file.read_at(&mut bytes, place.offset)?;
    let record =
        get(&Bytes::from(bytes), seed).filter(|record| record.kind == Kind::Entry).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("log record at offset {} is damaged", place.offset),
            )
        })?;
    Ok(codec::get_entry(record.payload)?)
}

/// A copy of the entry that holds no other memory alive than its own.
pub(super) fn detached(entry: Entry) -> Entry {
    match entry.payload {
        openraft::EntryPayload::Normal(Command(bytes)) => Entry {
            log_id: entry.log_id,
            payload: openraft::EntryPayload::Normal(Command(Bytes::copy_from_slice(&bytes))),
        },
        payload => Entry { log_id: entry.log_id, payload },
    }
}
