//! A segment file: a header block, then records, then zeros up to the pre-allocated size.
//!
//! The header repeats the marks as they were when the segment began, so that older segments can be removed
//! whole. A segment gets its name only after its header and all its zeros are durable; before that it is
//! `next.tmp`, which recovery throws away.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes};

use super::index::Marks;
use crate::raft::{
    codec,
    disk::{Disk, DiskFile},
};

/// Size of the header block; the first record begins here.
pub(super) const HEADER_BYTES: u64 = 256;
const MAGIC: &[u8; 8] = b"QBRLOG01";
const SPARE: &str = "next.tmp";
const ZEROS: usize = 1 << 20;

/// A segment that is known by name.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Highest entry index in it.
    pub(super) last_index: Option<u64>,
}

/// What the header block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) first_seq: u64,
    pub(super) marks: Marks,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.log")
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()
}

impl Header {
    fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.put_slice(MAGIC);
        out.put_u64_le(self.number);
        out.put_u64_le(self.first_seq);
        match &self.marks.vote {
            None => out.put_u8(0),
            Some(vote) => {
                out.put_u8(1);
                codec::put_vote(&mut out, vote);
            }
        }
        codec::put_log_id_option(&mut out, self.marks.committed.as_ref());
        codec::put_log_id_option(&mut out, self.marks.purged.as_ref());
        out.resize(252, 0);
        let crc = crc32c::crc32c_append(seed, &out);
        out.put_u32_le(crc);
        out
    }

    /// Reads a header block; nothing when it is damaged or of another data directory.
    pub(super) fn decode(block: &Bytes, seed: u32) -> Option<Self> {
        let mut crc = block.get(252..256)?;
        if block.get(..8)? != MAGIC || crc.get_u32_le() != crc32c::crc32c_append(seed, &block[..252]) {
            return None;
        }
        let mut rest = block.slice(8..252);
        let (number, first_seq) = (rest.get_u64_le(), rest.get_u64_le());
        let vote = match rest.get_u8() {
            0 => None,
            _ => Some(codec::get_vote(&mut rest).ok()?),
        };
        let committed = codec::get_log_id_option(&mut rest).ok()?;
        let purged = codec::get_log_id_option(&mut rest).ok()?;
        Some(Self { number, first_seq, marks: Marks { vote, committed, purged } })
    }
}

/// Makes a file full of zeros, durable except for its name.
pub(super) fn prepare(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(&dir.join(SPARE))?;
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < bytes {
        let part = usize::try_from(bytes - at).unwrap_or(ZEROS).min(ZEROS);
        file.write_at(&zeros[..part], at)?;
        at += part as u64;
    }
    file.sync()?;
    Ok(file)
}

/// Gives the prepared file its header and its name.
pub(super) fn begin(
    disk: &dyn Disk,
    dir: &Path,
    file: Arc<dyn DiskFile>,
    header: &Header,
    seed: u32,
) -> io::Result<Segment> {
    file.write_at(&header.encode(seed), 0)?;
    file.sync()?;
    let path = dir.join(file_name(header.number));
    disk.rename(&dir.join(SPARE), &path)?;
    disk.sync_dir(dir)?;
    Ok(Segment { number: header.number, path, file, last_index: None })
}
