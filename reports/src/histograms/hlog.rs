//! HdrHistogram interval logs, format version 1.3, as text.
//!
//! Written with base time equal to start time and stamps relative to it, payloads in the compressed V2 encoding,
//! maxima in milliseconds. Read leniently as other tools do (comments, legend, spaces for commas, absolute stamps),
//! but a malformed line is an error with its number, not the silent end of the log.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use jiff::Timestamp;

use super::Span;

/// Nanoseconds recorded, milliseconds printed.
const MAX_VALUE_DIVISOR: f64 = 1_000_000.0;
/// Interval stamps that are smaller than the start time by more than this are relative to it.
const YEAR_S: f64 = 365.0 * 24.0 * 3600.0;

/// What can be wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HlogError {
    /// A line that is neither comment, legend nor interval.
    #[error("line {line}: {reason}")]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A histogram that the encoder refuses.
    #[error("the histogram of {tag} cannot be encoded: {reason}")]
    Encode {
        /// Its tag.
        tag: String,
        /// Why.
        reason: String,
    },
}

/// Builds a log.
pub(super) struct Writer {
    text: String,
    serializer: V2DeflateSerializer,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(base: Timestamp) -> Self {
        let seconds = base.as_millisecond() / 1000;
        let millis = base.as_millisecond() % 1000;
        let mut text = String::new();
        let _ = write!(
            text,
            "#[Histogram log format version 1.3]\n\
             #[nanoseconds recorded; tags are subject/trial/phase/kind, percent-escaped]\n\
             #[BaseTime: {seconds}.{millis:03} (seconds since epoch)]\n\
             #[StartTime: {seconds}.{millis:03} (seconds since epoch), {base}]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        );
        Self { text, serializer: V2DeflateSerializer::new(), buffer: Vec::new() }
    }

    pub(super) fn interval(
        &mut self,
        tag: &str,
        span: Span,
        histogram: &Histogram<u64>,
    ) -> Result<(), HlogError> {
        self.buffer.clear();
        self.serializer
            .serialize(histogram, &mut self.buffer)
            .map_err(|error| HlogError::Encode { tag: tag.to_owned(), reason: error.to_string() })?;
        #[expect(clippy::cast_precision_loss, reason = "a latency past 2^53 ns is 104 days")]
        let max = histogram.max() as f64 / MAX_VALUE_DIVISOR;
        let Span { start_s, length_s } = span;
        let _ = write!(self.text, "Tag={tag},{start_s:.3},{length_s:.3},{max:.3},");
        BASE64.encode_string(&self.buffer, &mut self.text);
        self.text.push('\n');
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// One interval of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Its line, from 1.
    pub line: usize,
    /// Its tag, if it has one.
    pub tag: Option<String>,
    /// Relative to the log's start.
    pub span: Span,
    /// What was recorded in it.
    pub histogram: Histogram<u64>,
}

/// Reads a log of any origin.
///
/// # Errors
/// Names the first malformed line.
pub fn read(text: &str) -> Result<Vec<Interval>, HlogError> {
    let mut start_time = None;
    let mut base_time = None;
    let mut intervals: Vec<Interval> = Vec::new();
    let mut deserializer = Deserializer::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            let stamp = |name: &str| comment.strip_prefix(name).and_then(first_number);
            start_time = stamp("[StartTime:").or(start_time);
            base_time = stamp("[BaseTime:").or(base_time);
            continue;
        }
        if line.is_empty() || line.starts_with("\"StartTimestamp\"") || line.starts_with("\"Timestamp\"") {
            continue;
        }
        let malformed = |reason: String| HlogError::Malformed { line: number, reason };
        let mut interval = parse_interval(line, &mut deserializer).map_err(malformed)?;
        interval.line = number;
        // Stamps become relative to the start of the log, however it stated them.
        let stamp = interval.span.start_s;
        let start = *start_time.get_or_insert(stamp);
        let absolute = match base_time {
            Some(base) => base + stamp,
            None if stamp < start - YEAR_S => start + stamp,
            None => stamp,
        };
        interval.span.start_s = if base_time == Some(start) { stamp } else { absolute - start };
        intervals.push(interval);
    }
    Ok(intervals)
}

fn parse_interval(line: &str, deserializer: &mut Deserializer) -> Result<Interval, String> {
    let (tag, rest) = match line.strip_prefix("Tag=") {
        Some(tagged) => {
            let end = tagged.find([',', ' ']).ok_or("nothing follows the tag")?;
            (Some(tagged[..end].to_owned()), &tagged[end + 1..])
        }
        None => (None, line),
    };
    let fields: Vec<&str> = rest.split([',', ' ']).filter(|field| !field.is_empty()).collect();
    let [start, length, max, payload] = fields.as_slice() else {
        return Err(format!("expected start, length, maximum and histogram, found {} fields", fields.len()));
    };
    let seconds = |name: &str, text: &str| {
        text.parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(|| format!("{name} \"{text}\" is not a number"))
    };
    let span = Span { start_s: seconds("start", start)?, length_s: seconds("length", length)? };
    seconds("maximum", max)?;
    let bytes = BASE64.decode(payload).map_err(|error| format!("the histogram is not base64: {error}"))?;
    let histogram = deserializer
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("the histogram cannot be decoded: {error}"))?;
    Ok(Interval { line: 0, tag, span, histogram })
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.trim_end_matches([']', ',']).parse().ok()
}
