//! HdrHistogram percentile distributions (`.hgrm`), byte for byte as the reference library prints them.

use std::{collections::BTreeSet, fmt::Write as _};

use hdrhistogram::Histogram;

use crate::histograms::{Histograms, Kind};

/// Steps between two halvings of what is left.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Nanoseconds are printed as milliseconds.
const SCALING: f64 = 1_000_000.0;

/// Every subject, phase and kind, all trials merged, each under a comment with its name.
pub(super) fn all(histograms: &Histograms) -> String {
    let mut out = String::new();
    for (name, text) in super::hgrm_files(histograms) {
        let _ = writeln!(out, "#[{name}, milliseconds]\n{text}");
    }
    out
}

/// One distribution per subject, phase and kind, all trials merged: `kafka/steady/response` and its text.
pub fn files(histograms: &Histograms) -> Vec<(String, String)> {
    let keys: BTreeSet<(&str, &str, Kind)> =
        histograms.iter().map(|(key, ..)| (key.subject.as_str(), key.phase.as_str(), key.kind)).collect();
    keys.into_iter()
        .filter_map(|(subject, phase, kind)| {
            let merged = histograms.merged(subject, phase, kind)?;
            let text = percentile_distribution(&merged, TICKS_PER_HALF_DISTANCE, SCALING);
            Some((format!("{subject}/{phase}/{kind}"), text))
        })
        .collect()
}

/// The table of one histogram, values divided by `scaling`.
pub fn percentile_distribution(
    histogram: &Histogram<u64>,
    ticks_per_half_distance: u32,
    scaling: f64,
) -> String {
    let digits = usize::from(histogram.sigfig());
    #[expect(clippy::cast_precision_loss, reason = "a latency past 2^53 ns is 104 days")]
    let scaled = |value: u64| value as f64 / scaling;
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut cumulative = 0;
    for step in histogram.iter_quantiles(ticks_per_half_distance) {
        cumulative += step.count_since_last_iteration();
        let value = scaled(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        let _ = write!(out, "{value:12.digits$} {quantile:.12} {cumulative:10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let (buckets, sub_buckets) = buckets(histogram);
    let _ = writeln!(
        out,
        "#[Mean    = {:12.digits$}, StdDeviation   = {:12.digits$}]\n\
         #[Max     = {:12.digits$}, Total count    = {:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]",
        histogram.mean() / scaling,
        histogram.stdev() / scaling,
        scaled(histogram.max()),
        histogram.len(),
    );
    out
}

/// Sub-buckets hold twice the digits' worth of values; each further bucket doubles the range.
fn buckets(histogram: &Histogram<u64>) -> (u32, u64) {
    let sub_buckets = (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    let mut reach = sub_buckets.saturating_mul(histogram.low().max(1));
    let mut buckets = 1;
    while reach <= histogram.high() {
        buckets += 1;
        if reach > u64::MAX / 2 {
            break;
        }
        reach *= 2;
    }
    (buckets, sub_buckets)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_distribution_is_printed_as_the_reference_library_prints_it() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        for us in [1_000, 2_000, 3_000, 10_000] {
            histogram.record(us).unwrap();
        }
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)\n\
                        \n       1.000 0.000000000000          1           1.00\
                        \n       2.000 0.500000000000          2           2.00\
                        \n       3.001 0.750000000000          3           4.00\
                        \n      10.007 0.875000000000          4           8.00\
                        \n      10.007 1.000000000000          4\
                        \n#[Mean    =        4.001, StdDeviation   =        3.537]\
                        \n#[Max     =       10.007, Total count    =            4]\
                        \n#[Buckets =           22, SubBuckets     =         2048]\n";
        assert_eq!(percentile_distribution(&histogram, 1, 1_000.0), expected);
    }
}
