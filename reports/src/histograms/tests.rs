use hdrhistogram::serialization::{Serializer as _, V2Serializer, interval_log};
use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;
use crate::sample;

fn base() -> Timestamp {
    "2023-11-14T22:13:20Z".parse().unwrap()
}

fn of(values: &[u64]) -> Histogram<u64> {
    let mut histogram = new_histogram();
    for value in values {
        histogram.record(*value).unwrap();
    }
    histogram
}

fn one(span: Span, values: &[u64]) -> Histograms {
    let mut histograms = Histograms::default();
    histograms.add(Key::new("a b", 0, "p/1", Kind::Response), span, &of(values)).unwrap();
    histograms
}

#[test]
fn a_log_states_version_base_and_start_and_its_payload_is_compressed_v2() {
    let log = one(Span { start_s: 1.5, length_s: 2.0 }, &[12_345_000]).to_hlog(base()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "#[Histogram log format version 1.3]");
    assert_eq!(lines[2], "#[BaseTime: 1700000000.000 (seconds since epoch)]");
    assert!(lines[3].starts_with("#[StartTime: 1700000000.000 (seconds since epoch), 2023-11-14"));
    assert!(lines[4].starts_with("\"StartTimestamp\""));
    // 12.345 ms has five digits, the histogram three: its maximum is the top of the bucket.
    assert!(lines[5].starts_with("Tag=a%20b/0/p%2F1/response,1.500,2.000,12.34"), "{}", lines[5]);
    assert_eq!(lines[5].split(',').next_back().unwrap().get(..8), Some("HISTFAAA"));
    assert_eq!(lines.len(), 6);
}

#[test]
fn the_inner_header_is_that_of_version_2_with_the_range_of_all_histograms() {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&of(&[1_000]), &mut bytes).unwrap();
    let int = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(int(0), 0x1c84_9313);
    assert_eq!(int(8), 0);
    assert_eq!(int(12), 3);
    assert_eq!(long(16), 1);
    assert_eq!(long(24), HIGHEST_NS);
}

#[test]
fn an_independent_reader_sees_the_same_tags_stamps_and_counts() {
    let (_, histograms) = sample::raw(1);
    let log = histograms.to_hlog(base()).unwrap();
    let mut seen = 0;
    let mut last_start = std::time::Duration::ZERO;
    for entry in interval_log::IntervalLogIterator::new(log.as_bytes()) {
        let Ok(interval_log::LogEntry::Interval(interval)) = entry else { continue };
        let key: Key = interval.tag().unwrap().as_str().parse().unwrap();
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, interval.encoded_histogram())
                .unwrap();
        let read: Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(Some(&read), histograms.get(&key));
        assert!(interval.start_timestamp() >= last_start, "intervals in order of time");
        last_start = interval.start_timestamp();
        seen += 1;
    }
    assert_eq!(seen, histograms.iter().count());
}

#[test]
fn a_log_with_absolute_stamps_and_spaces_is_read_relative_to_its_start() {
    let ours = one(Span { start_s: 0.0, length_s: 1.0 }, &[5_000]).to_hlog(base()).unwrap();
    let payload = ours.lines().last().unwrap().rsplit(',').next().unwrap().to_owned();
    let foreign = format!(
        "#[Logged with something else]\n#[Histogram log format version 1.2]\n\
         #[StartTime: 1700000000.000 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n\
         1700000002.500,1.000,0.005,{payload}\n\
         Tag=b 3.000 1.000 0.005 {payload}\n"
    );
    let read = hlog::read(&foreign).unwrap();
    let facts: Vec<_> = read.iter().map(|i| (i.line, i.tag.as_deref(), i.span.start_s)).collect();
    assert_eq!(facts, [(5, None, 2.5), (6, Some("b"), 3.0)]);
    assert_eq!(read[0].histogram, of(&[5_000]));
}

#[test]
fn a_malformed_line_is_named() {
    let log = one(Span::default(), &[1]).to_hlog(base()).unwrap();
    let broken = |line: &str| hlog_error(&format!("{log}{line}\n"));
    assert_eq!(
        broken("Tag=a/0/b/response,0.0,1.0"),
        "line 7: expected start, length, maximum and histogram, found 2 fields"
    );
    assert_eq!(broken("Tag=a/0/b/response,zero,1.0,1.0,HIST"), "line 7: start \"zero\" is not a number");
    assert!(broken("Tag=a/0/b/response,0.0,1.0,1.0,!!!!").starts_with("line 7: the histogram is not base64"));
    assert!(broken("Tag=a/0/b/response,0.0,1.0,1.0,HISTFAAA").starts_with("line 7: the histogram cannot be"));
    let good = log.lines().last().unwrap().replacen("a%20b/0/p%2F1/response", "publish", 1);
    assert!(broken(&good).starts_with("line 7: tag \"publish\" is not subject/trial/phase/kind"));
}

fn hlog_error(text: &str) -> String {
    Histograms::from_hlog(text).unwrap_err().to_string()
}

#[test]
fn a_histogram_of_another_precision_is_refused() {
    let coarse = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 2).unwrap();
    let key = Key::new("a", 0, "p", Kind::Service);
    let error = Histograms::default().add(key, Span::default(), &coarse).unwrap_err().to_string();
    assert!(error.contains("a/0/p/service"), "{error}");
}

#[test]
fn percentiles_of_merged_trials_come_from_all_their_values() {
    let mut histograms = Histograms::default();
    let mut add = |trial, values: &[u64]| {
        let key = Key::new("a", trial, "p", Kind::Response);
        histograms.add(key, Span::default(), &of(values)).unwrap();
    };
    add(0, &[1_000; 99]);
    add(1, &[9_000; 1]);
    let merged = histograms.merged("a", "p", Kind::Response).unwrap();
    // An average of the two p95 would be 5,000.
    assert_eq!(merged.len(), 100);
    assert_eq!(merged.value_at_quantile(0.95), 1_000);
    assert!(merged.equivalent(merged.max(), 9_000));
    assert!(histograms.merged("a", "p", Kind::Service).is_none());
    assert!(histograms.merged("b", "p", Kind::Response).is_none());
}

proptest! {
    // Each case touches histograms of 33,000 counts.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A log read back holds exactly what was written, whatever the names and values.
    #[test]
    fn a_log_round_trips(
        subject in ".{0,12}", phase in "[ -~]{1,12}", trial in 0_u32..9,
        values in prop::collection::vec(1_u64..HIGHEST_NS, 1..40), start in 0_u32..100_000,
    ) {
        let mut histograms = Histograms::default();
        let span = Span { start_s: f64::from(start) / 8.0, length_s: 0.5 };
        histograms.add(Key::new(subject, trial, phase, Kind::EndToEnd), span, &of(&values)).unwrap();
        let read = Histograms::from_hlog(&histograms.to_hlog(base()).unwrap()).unwrap();
        prop_assert_eq!(read, histograms);
    }

    /// Merging histograms of parts gives the histogram of the whole, in any order.
    #[test]
    fn merging_loses_nothing(
        left in prop::collection::vec(1_u64..HIGHEST_NS, 0..40),
        right in prop::collection::vec(1_u64..HIGHEST_NS, 0..40),
    ) {
        let (a, b) = (one(Span::default(), &left), one(Span::default(), &right));
        let mut ab = a.clone();
        ab.merge(&b).unwrap();
        let mut ba = b;
        ba.merge(&a).unwrap();
        let whole = one(Span::default(), &[left, right].concat());
        prop_assert_eq!(&ab, &ba);
        prop_assert_eq!(&ab, &whole);
    }
}
