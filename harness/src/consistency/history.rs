//! A recorded history: one JSON object a line, one line an operation.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Sets the key to `argument`.
    Put,
    /// A linearizable read; `value` is what it saw.
    Get,
    /// A serializable read, which may be stale.
    GetStale,
    /// Sets the key to `argument` if it holds `expected`.
    Cas,
    /// Removes the key.
    Delete,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// A compare-and-set that found something else than `expected`, and did nothing.
    Conflict,
    /// Certainly not done.
    Refused,
    /// May have been done at any time after `start`, or never.
    Unknown,
}

/// One operation of one sequential process. Values are unique in a history: each is written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who; a process does one operation at a time.
    pub process: u64,
    /// What.
    pub operation: Kind,
    /// On which key.
    pub key: String,
    /// The value written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Compare-and-set: the value that must be there; absent for "no such key".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// How it ended.
    #[serde(rename = "result")]
    pub outcome: Outcome,
    /// What a read saw; absent for "no such key".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The revision that a write made, or that of the value a read saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When it began: nanoseconds on the machine's monotonic clock.
    pub start: u64,
    /// When its answer was there; absent for an unknown outcome.
    #[serde(default)]
    pub end: Option<u64>,
}

/// Writes a history.
///
/// # Errors
/// When the file cannot be written.
pub fn write<'a>(path: &Path, entries: impl IntoIterator<Item = &'a Entry>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("cannot read the history: {0}")]
    Read(#[from] io::Error),
    /// A line is no operation.
    #[error("line {line} of the history is no operation: {source}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads a history.
///
/// # Errors
/// Names the line that is no operation.
pub fn read(path: &Path) -> Result<Vec<Entry>, HistoryError> {
    let mut entries = Vec::new();
    for (index, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let parsed = serde_json::from_str(&line);
        entries.push(parsed.map_err(|source| HistoryError::Line { line: index + 1, source })?);
    }
    Ok(entries)
}
