//! Reads the segments back at start.
//!
//! A record that does not check is the torn end of the stream if no later record vouches that it was once
//! durable: it and whatever follows are zeroed and the log goes on from there. If one does, or if it lies in
//! any but the last segment, something durable was damaged: the store refuses to open and says where.

use std::{io, path::PathBuf};

use bytes::Bytes;

use super::{
    LogConfig,
    index::{Index, Marks},
    record::{self, Kind, Place, Record},
    segment::{self, HEADER_BYTES, Header, Segment},
};
use crate::raft::{codec, disk::Disk};

/// Number of a log's first record.
const FIRST_SEQ: u64 = 1;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: String,
        /// The disk's answer.
        source: io::Error,
    },
    /// Something that was durable cannot be read any more.
    #[error("log segment {} is damaged at offset {offset}: {what}; restore the file, or remove this member and add it again under a new id", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found there.
        what: String,
    },
}

/// What was found on disk.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) next_seq: u64,
    pub(super) segments: Segments,
}

/// The segments, oldest first, and where the newest ends.
pub(super) struct Segments {
    pub(super) all: Vec<Segment>,
    pub(super) end: u64,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |source| OpenError::Io { what, source }
}

pub(super) fn recover(disk: &dyn Disk, config: &LogConfig, seed: u32) -> Result<Recovered, OpenError> {
    let names = disk.list(&config.dir).map_err(io_error(format!("listing {}", config.dir.display())))?;
    let mut index = Index::new(config.cache_bytes);
    let numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    let mut all: Vec<Segment> = Vec::new();
    let mut first_seq = None;
    let mut next_seq = None;
    let mut end = 0;
    for (position, &number) in numbers.iter().enumerate() {
        let path = config.dir.join(segment::file_name(number));
        let file = disk.open(&path).map_err(io_error(format!("opening {}", path.display())))?;
        let mut scan = Scan {
            seed,
            last: position + 1 == numbers.len(),
            segment: Segment { number, path, file, last_index: None },
        };
        let content = scan.read()?;
        let header = scan.header(&content)?;
        if let Some(before) = all.last()
            && (before.number + 1 != number || next_seq != Some(header.first_seq))
        {
            let what = format!("it does not follow segment {:016x}", before.number);
            return Err(scan.damaged(0, what));
        }
        if all.is_empty() {
            index.marks = header.marks;
            first_seq = Some(header.first_seq);
        }
        let mut seq = header.first_seq;
        end = scan.replay(&content, &mut seq, &mut index)?;
        next_seq = Some(seq);
        all.push(scan.segment);
    }
    // Segments are removed from the front only after a purge that is found further on.
    let missing = match index.marks.purged {
        Some(purged) => index.first_index().is_some_and(|first| first > purged.index + 1),
        None => first_seq.is_some_and(|seq| seq != FIRST_SEQ),
    };
    if let (true, Some(segment)) = (missing, all.first()) {
        let what = "segments before it are missing".into();
        return Err(OpenError::Damaged { path: segment.path.clone(), offset: 0, what });
    }
    let next_seq = match next_seq {
        // What a killed process wrote may still be in the page cache only; from here on it counts as durable.
        Some(seq) => {
            for segment in &all {
                segment.file.sync().map_err(io_error(format!("flushing {}", segment.path.display())))?;
            }
            seq
        }
        None => {
            let marks = Marks::default();
            let make = || {
                let file = segment::prepare(disk, &config.dir, config.segment_bytes)?;
                let header = Header { number: 1, first_seq: FIRST_SEQ, marks };
                segment::begin(disk, &config.dir, file, &header, seed)
            };
            all.push(make().map_err(io_error(format!("making a segment in {}", config.dir.display())))?);
            end = HEADER_BYTES;
            FIRST_SEQ
        }
    };
    Ok(Recovered { index, next_seq, segments: Segments { all, end } })
}

struct Scan {
    seed: u32,
    last: bool,
    segment: Segment,
}

impl Scan {
    fn damaged(&self, offset: u64, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: self.segment.path.clone(), offset, what: what.into() }
    }

    fn read(&self) -> Result<Bytes, OpenError> {
        let what = || format!("reading {}", self.segment.path.display());
        let bytes = self.segment.file.bytes().map_err(io_error(what()))?;
        let mut content = vec![0; usize::try_from(bytes).map_err(|e| io_error(what())(io::Error::other(e)))?];
        self.segment.file.read_at(&mut content, 0).map_err(io_error(what()))?;
        Ok(Bytes::from(content))
    }

    fn header(&self, content: &Bytes) -> Result<Header, OpenError> {
        Header::decode(content, self.seed)
            .filter(|header| header.number == self.segment.number)
            .ok_or_else(|| self.damaged(0, "no valid header of this data directory"))
    }

    fn replay(&mut self, content: &Bytes, seq: &mut u64, index: &mut Index) -> Result<u64, OpenError> {
        let mut at = usize::try_from(HEADER_BYTES).unwrap_or(0);
        while let Some(record) = record::get(&content.slice(at.min(content.len())..), self.seed) {
            if record.seq != *seq {
                break;
            }
            let bytes = record.bytes;
            self.apply(record, at as u64, index)?;
            *seq += 1;
            at += bytes;
        }
        let rest = content.slice(at.min(content.len())..);
        if let Some(garbage) = rest.iter().rposition(|byte| *byte != 0) {
            self.end_of_stream(&rest, *seq, at as u64, garbage + 1)?;
        }
        Ok(at as u64)
    }

    /// Decides whether what follows the last good record is a torn tail, and zeroes it if so.
    fn end_of_stream(&self, rest: &Bytes, seq: u64, at: u64, garbage: usize) -> Result<(), OpenError> {
        if !self.last {
            return Err(self.damaged(at, format!("record {seq} does not check, and later segments exist")));
        }
        for later in 1..garbage {
            let Some(mut number) = rest.get(later + 8..later + 16) else { break };
            let number = bytes::Buf::get_u64_le(&mut number);
            if number <= seq || number - seq > u64::from(u32::MAX) {
                continue;
            }
            if let Some(record) = record::get(&rest.slice(later..), self.seed)
                && record.durable_below > seq
            {
                let what = format!("record {seq} does not check, and record {} after it does", record.seq);
                return Err(self.damaged(at, what));
            }
        }
        tracing::warn!(file = %self.segment.path.display(), offset = at, bytes = garbage, "torn end of the log removed");
        let what = || format!("repairing {}", self.segment.path.display());
        self.segment.file.write_at(&vec![0; garbage], at).map_err(io_error(what()))?;
        self.segment.file.sync().map_err(io_error(what()))
    }

    fn apply(&mut self, record: Record, at: u64, index: &mut Index) -> Result<(), OpenError> {
        let bytes = u32::try_from(record.bytes).map_err(|_| self.damaged(at, "a record is too long"))?;
        let mut payload = record.payload;
        let parsed = match record.kind {
            Kind::Entry => codec::get_log_id(&mut payload).map(|log_id| {
                if index.next_index().is_some_and(|next| next != log_id.index) {
                    return Err(self.damaged(at, format!("entry {} does not follow", log_id.index)));
                }
                let place = Place { file: self.segment.file.clone(), offset: at, bytes };
                index.push_on_disk(log_id, place);
                self.segment.last_index = self.segment.last_index.max(Some(log_id.index));
                Ok(())
            }),
            Kind::Vote => codec::get_vote(&mut payload).map(|vote| {
                index.marks.vote = Some(vote);
                Ok(())
            }),
            Kind::Committed => codec::get_log_id_option(&mut payload).map(|committed| {
                index.marks.committed = committed;
                Ok(())
            }),
            Kind::Truncate => codec::get_log_id_option(&mut payload).map(|last| {
                index.truncate_after(last.map(|id| id.index));
                Ok(())
            }),
            Kind::Purge => codec::get_log_id(&mut payload).map(|upto| {
                index.purge(upto);
                Ok(())
            }),
        };
        parsed.map_err(|error| self.damaged(at, error.to_string()))?
    }
}
