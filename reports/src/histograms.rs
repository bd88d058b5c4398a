//! The latency histograms of a run, by subject, trial, phase and kind.
//!
//! All have three significant digits over one nanosecond to one hour, so any two merge without loss: percentiles of
//! several trials come from a merged histogram and are never averaged. On disk they are an interval log of version
//! 1.3 ([`hlog`]) that other HdrHistogram tools read.

use std::{collections::BTreeMap, fmt, str::FromStr};

use hdrhistogram::Histogram;
use jiff::Timestamp;

pub mod hlog;

pub use hlog::HlogError;

/// Significant digits of every histogram.
pub const DIGITS: u8 = 3;
/// Longest latency that is told apart from longer ones: one hour.
pub const HIGHEST_NS: u64 = 3_600_000_000_000;

/// An empty histogram of the range and precision that all of a run share.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).expect("the bounds are constants and valid")
}

/// Which latency of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Due time to acknowledgement.
    Response,
    /// Actual send to acknowledgement.
    Service,
    /// Due time to actual send.
    ScheduleLag,
    /// Due time to the consumer's hands.
    EndToEnd,
}

impl Kind {
    /// In the order in which reports show them.
    pub const ALL: [Self; 4] = [Self::Response, Self::Service, Self::ScheduleLag, Self::EndToEnd];

    /// As written in tags and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Service => "service",
            Self::ScheduleLag => "schedule_lag",
            Self::EndToEnd => "end_to_end",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose latencies a histogram holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The subject's name.
    pub subject: String,
    /// The round.
    pub trial: u32,
    /// The phase's name.
    pub phase: String,
    /// Which latency.
    pub kind: Kind,
}

impl Key {
    /// A key of its parts.
    pub fn new(subject: impl Into<String>, trial: u32, phase: impl Into<String>, kind: Kind) -> Self {
        Self { subject: subject.into(), trial, phase: phase.into(), kind }
    }

    /// The tag of the interval log: the parts percent-escaped and joined by `/`.
    pub fn to_tag(&self) -> String {
        format!("{}/{}/{}/{}", escape(&self.subject), self.trial, escape(&self.phase), self.kind)
    }
}

impl FromStr for Key {
    type Err = TagError;

    fn from_str(tag: &str) -> Result<Self, TagError> {
        let error = || TagError { tag: tag.to_owned() };
        let parts: Vec<&str> = tag.split('/').collect();
        let [subject, trial, phase, kind] = parts.as_slice() else { return Err(error()) };
        Ok(Self {
            subject: unescape(subject).ok_or_else(error)?,
            trial: trial.parse().map_err(|_| error())?,
            phase: unescape(phase).ok_or_else(error)?,
            kind: Kind::ALL.into_iter().find(|k| k.as_str() == *kind).ok_or_else(error)?,
        })
    }
}

/// A tag that names no histogram of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tag \"{tag}\" is not subject/trial/phase/kind with kind response, service, schedule_lag or end_to_end"
)]
pub struct TagError {
    /// The tag as found.
    pub tag: String,
}

/// When the messages of a histogram were due, in seconds since the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Begin.
    pub start_s: f64,
    /// Duration.
    pub length_s: f64,
}

impl Span {
    fn union(self, other: Self) -> Self {
        let start_s = self.start_s.min(other.start_s);
        let end_s = (self.start_s + self.length_s).max(other.start_s + other.length_s);
        Self { start_s, length_s: end_s - start_s }
    }
}

/// All histograms of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histograms {
    entries: BTreeMap<Key, (Span, Histogram<u64>)>,
}

impl Histograms {
    /// Adds a histogram; what is already there under the key is merged with it.
    ///
    /// # Errors
    /// When its range or precision does not fit into that of a run's histograms.
    pub fn add(&mut self, key: Key, span: Span, histogram: &Histogram<u64>) -> Result<(), RangeError> {
        let too_long = histogram.lowest_equivalent(histogram.max()) > HIGHEST_NS;
        if histogram.sigfig() != DIGITS || too_long {
            return Err(RangeError { key: key.to_tag() });
        }
        let (known_span, known) = self.entries.entry(key).or_insert_with(|| (span, new_histogram()));
        *known_span = known_span.union(span);
        known.add(histogram).expect("precision and range were checked above");
        Ok(())
    }

    /// Adds every histogram of another run or shard.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn merge(&mut self, other: &Self) -> Result<(), RangeError> {
        other.entries.iter().try_for_each(|(key, (span, histogram))| self.add(key.clone(), *span, histogram))
    }

    /// The histogram of one trial.
    pub fn get(&self, key: &Key) -> Option<&Histogram<u64>> {
        self.entries.get(key).map(|(_, histogram)| histogram)
    }

    /// All trials of a subject and phase in one histogram; `None` when nothing was recorded.
    pub fn merged(&self, subject: &str, phase: &str, kind: Kind) -> Option<Histogram<u64>> {
        let mut merged: Option<Histogram<u64>> = None;
        let of_subject = self
            .entries
            .iter()
            .filter(|(key, _)| key.subject == subject && key.phase == phase && key.kind == kind);
        for (_, (_, histogram)) in of_subject {
            match &mut merged {
                None => merged = Some(histogram.clone()),
                Some(sum) => sum.add(histogram).expect("all entries have the same range"),
            }
        }
        merged.filter(|histogram| !histogram.is_empty())
    }

    /// Every key and histogram, in order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Span, &Histogram<u64>)> {
        self.entries.iter().map(|(key, (span, histogram))| (key, *span, histogram))
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The interval log, intervals in order of time.
    ///
    /// # Errors
    /// When a histogram cannot be encoded.
    pub fn to_hlog(&self, base: Timestamp) -> Result<String, HlogError> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by(|a, b| a.1.start_s.total_cmp(&b.1.start_s));
        let mut log = hlog::Writer::new(base);
        for (key, span, histogram) in entries {
            log.interval(&key.to_tag(), span, histogram)?;
        }
        Ok(log.finish())
    }

    /// Reads an interval log whose tags are those of a run.
    ///
    /// # Errors
    /// Names the first malformed line.
    pub fn from_hlog(text: &str) -> Result<Self, HlogError> {
        let mut histograms = Self::default();
        for interval in hlog::read(text)? {
            let at = |reason: String| HlogError::Malformed { line: interval.line, reason };
            let tag = interval.tag.as_deref().ok_or_else(|| at("the interval has no tag".to_owned()))?;
            let key: Key = tag.parse().map_err(|error: TagError| at(error.to_string()))?;
            histograms.add(key, interval.span, &interval.histogram).map_err(|error| at(error.to_string()))?;
        }
        Ok(histograms)
    }
}

/// A histogram that does not fit the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the histogram of {key} has another range or precision than three digits up to one hour")]
pub struct RangeError {
    /// The tag.
    pub key: String,
}

fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
