//! A recorded trace: when something happened, to which key, with what content.
//!
//! JSON lines, a JSON array, or CSV with a header line. The trace is read whole before the load starts and
//! ordered by time; a record that lacks a field stops the run with its line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ProfileError;

/// Where a trace is and how to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSource {
    /// Relative to the profile's file.
    pub path: PathBuf,
    /// How records are written.
    pub format: TraceFormat,
    /// Field with the time of the record.
    pub timestamp: String,
    /// `unix-s`, `unix-ms`, `rfc3339`, or a pattern like `%Y/%m/%d %H:%M` (UTC).
    #[serde(default = "rfc3339")]
    pub time_format: String,
    /// Field with the key; without one, messages carry no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Field with the payload; without one, the whole record as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

fn rfc3339() -> String {
    "rfc3339".to_owned()
}

/// How the records of a trace are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceFormat {
    /// A JSON object a line.
    Jsonl,
    /// A JSON array of objects.
    Json,
    /// Comma-separated, with a header line.
    Csv,
}

/// A trace in memory, ordered by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The distinct keys, in order of first appearance; one empty key where the source names no field.
    pub keys: Vec<Bytes>,
    /// In order of time.
    pub records: Vec<TraceRecord>,
}

/// One record of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRecord {
    /// Nanoseconds since the first record.
    pub at_ns: u64,
    /// Index into [`Trace::keys`].
    pub key: u32,
    /// What to send.
    pub body: Bytes,
}

const MAX_BYTES: u64 = 512 << 20;

impl TraceSource {
    /// Reads the trace.
    ///
    /// # Errors
    /// Names the file and the line (or record) that cannot be read, and the field that is missing.
    pub fn load(&self) -> Result<Trace, ProfileError> {
        let origin = self.path.display().to_string();
        let unreadable = |message: String| ProfileError::unreadable(&origin, &message);
        let size = std::fs::metadata(&self.path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unreadable(format!(
                "{size} bytes are more than the {MAX_BYTES} that a trace may have"
            )));
        }
        let rows = self.rows(&self.path).map_err(unreadable)?;
        let mut keys: Vec<Bytes> = Vec::new();
        let mut index: HashMap<String, u32> = HashMap::new();
        let mut timed = Vec::with_capacity(rows.len());
        for (place, row) in rows {
            let (at, key, body) = self.record(&row).map_err(|e| unreadable(format!("{place}: {e}")))?;
            let next = u32::try_from(keys.len()).map_err(|_| unreadable("too many keys".to_owned()))?;
            let key = *index.entry(key).or_insert_with_key(|key| {
                keys.push(Bytes::copy_from_slice(key.as_bytes()));
                next
            });
            timed.push((at, key, body));
        }
        timed.sort_by_key(|(at, ..)| *at);
        let first =
            timed.first().map(|(at, ..)| *at).ok_or_else(|| unreadable("it has no records".to_owned()))?;
        let records = timed
            .into_iter()
            .map(|(at, key, body)| TraceRecord { at_ns: at.abs_diff(first), key, body })
            .collect();
        Ok(Trace { keys, records })
    }

    /// All records as JSON objects, each with the words that name its place.
    fn rows(&self, path: &Path) -> Result<Vec<(String, Value)>, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        match self.format {
            TraceFormat::Jsonl => text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(i, line)| {
                    let place = format!("line {}", i + 1);
                    let row = serde_json::from_str(line).map_err(|e| format!("{place}: not JSON: {e}"))?;
                    Ok((place, row))
                })
                .collect(),
            TraceFormat::Json => {
                let rows: Vec<Value> =
                    serde_json::from_str(&text).map_err(|e| format!("not a JSON array: {e}"))?;
                Ok(rows.into_iter().enumerate().map(|(i, row)| (format!("record {}", i + 1), row)).collect())
            }
            TraceFormat::Csv => {
                let mut reader = csv::Reader::from_reader(text.as_bytes());
                let header = reader.headers().map_err(|e| e.to_string())?.clone();
                reader
                    .records()
                    .map(|record| {
                        let record = record.map_err(|e| e.to_string())?;
                        let line = record.position().map_or(0, csv::Position::line);
                        let row = header.iter().zip(&record).map(|(k, v)| (k.to_owned(), Value::from(v)));
                        Ok((format!("line {line}"), Value::Object(row.collect())))
                    })
                    .collect()
            }
        }
    }

    fn record(&self, row: &Value) -> Result<(i64, String, Bytes), String> {
        let field = |name: &str| row.get(name).ok_or_else(|| format!("the field `{name}` is missing"));
        let at = self.time(field(&self.timestamp)?)?;
        let key = match &self.key {
            Some(name) => text_of(field(name)?),
            None => String::new(),
        };
        let body = match &self.payload {
            Some(name) => text_of(field(name)?),
            None => row.to_string(),
        };
        Ok((at, key, Bytes::from(body)))
    }

    /// Nanoseconds since 1970.
    fn time(&self, value: &Value) -> Result<i64, String> {
        let text = text_of(value);
        let number = |scale: f64| {
            let number: f64 =
                text.parse().map_err(|_| format!("`{text}` is not a number of {}", self.time_format))?;
            #[expect(clippy::cast_possible_truncation, reason = "saturates, centuries from now")]
            Ok((number * scale) as i64)
        };
        let of = |at: jiff::Timestamp| {
            i64::try_from(at.as_nanosecond()).map_err(|_| format!("`{text}` is out of range"))
        };
        match self.time_format.as_str() {
            "unix-s" => number(1e9),
            "unix-ms" => number(1e6),
            "rfc3339" => of(text.parse().map_err(|e| format!("`{text}` is not an RFC 3339 time: {e}"))?),
            pattern => {
                let time = jiff::civil::DateTime::strptime(pattern, &text)
                    .map_err(|e| format!("`{text}` is not of the form `{pattern}`: {e}"))?;
                of(time.in_tz("UTC").map_err(|e| e.to_string())?.timestamp())
            }
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, format: TraceFormat, time_format: &str) -> Result<Trace, ProfileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        std::fs::write(&path, text).unwrap();
        TraceSource {
            path,
            format,
            timestamp: "at".to_owned(),
            time_format: time_format.to_owned(),
            key: Some("who".to_owned()),
            payload: None,
        }
        .load()
    }

    #[test]
    fn the_three_formats_read_the_same_and_in_order_of_time() {
        let jsonl = "{\"at\":\"2001/01/14 21:55\",\"who\":\"SMF\"}\n\n{\"at\":\"2001/01/14 21:50\",\"who\":\"SAN\"}\n";
        let json = format!("[{}]", jsonl.trim().replace("\n\n", ","));
        let csv = "at,who\n2001/01/14 21:55,SMF\n2001/01/14 21:50,SAN\n";
        let pattern = "%Y/%m/%d %H:%M";
        let trace = load(jsonl, TraceFormat::Jsonl, pattern).unwrap();
        assert_eq!(trace.keys, ["SMF", "SAN"]);
        let times: Vec<_> = trace.records.iter().map(|r| (r.at_ns, r.key)).collect();
        assert_eq!(times, [(0, 1), (300_000_000_000, 0)]);
        assert_eq!(trace, load(&json, TraceFormat::Json, pattern).unwrap());
        assert_eq!(trace, load(csv, TraceFormat::Csv, pattern).unwrap());
    }

    #[test]
    fn a_bad_record_is_named_by_its_line() {
        for (text, wants) in [
            ("{\"at\":1,\"who\":\"a\"}\n{\"at\":2}\n", "line 2: the field `who` is missing"),
            ("{\"at\":1,\"who\":\"a\"}\nnonsense\n", "line 2: not JSON"),
            ("{\"at\":\"x\",\"who\":\"a\"}", "line 1: `x` is not a number of unix-s"),
            ("", "it has no records"),
        ] {
            let error = load(text, TraceFormat::Jsonl, "unix-s").unwrap_err().to_string();
            assert!(error.contains(wants), "{error}");
        }
        let error = load("at,who\n1,a\n2\n", TraceFormat::Csv, "unix-s").unwrap_err().to_string();
        assert!(error.contains("line: 3"), "{error}");
    }
}
