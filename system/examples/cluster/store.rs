//! The application's data on one node: values with versions, and a log of them on disk.
//!
//! A higher version wins, wherever it comes from and however often, so copies can be merged in any order. A
//! record is in the operating system's hands before it is acknowledged: it survives the end of the process,
//! not that of the machine.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A value, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u64,
    pub(crate) value: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    record: Record,
}

#[derive(Debug)]
struct Inner {
    records: BTreeMap<String, Record>,
    log: File,
}

#[derive(Debug)]
pub(crate) struct Store(Mutex<Inner>);

/// A version for a write that came without one: the time, so that a later write wins.
pub(crate) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}

impl Store {
    /// Opens the store in a directory. A line that was cut off by the end of the process is left out.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("kv.jsonl");
        let mut records = BTreeMap::new();
        if let Ok(file) = File::open(&path) {
            for line in BufReader::new(file).lines() {
                if let Ok(line) = serde_json::from_str::<Line>(&line?) {
                    merge(&mut records, &line.key, &line.record);
                }
            }
        }
        let mut log = OpenOptions::new().create(true).append(true).open(&path)?;
        // Whatever a cut-off line left behind must not swallow the next one.
        log.write_all(b"\n")?;
        Ok(Self(Mutex::new(Inner { records, log })))
    }

    /// Takes a record, unless a newer one is there.
    pub(crate) fn put(&self, key: &str, record: &Record) -> io::Result<()> {
        let mut inner = self.0.lock();
        if merge(&mut inner.records, key, record) {
            let line = Line { key: key.to_owned(), record: record.clone() };
            let mut bytes = serde_json::to_vec(&line)?;
            bytes.push(b'\n');
            inner.log.write_all(&bytes)?;
        }
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        self.0.lock().records.get(key).cloned()
    }

    /// All records whose key fits.
    pub(crate) fn select(&self, fits: impl Fn(&str) -> bool) -> Vec<(String, Record)> {
        let inner = self.0.lock();
        let records = inner.records.iter().filter(|(key, _)| fits(key));
        records.map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// How many keys have a value.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().records.values().filter(|record| record.value.is_some()).count()
    }
}

fn merge(records: &mut BTreeMap<String, Record>, key: &str, record: &Record) -> bool {
    let newer = records.get(key).is_none_or(|old| old.version < record.version);
    if newer {
        records.insert(key.to_owned(), record.clone());
    }
    newer
}
