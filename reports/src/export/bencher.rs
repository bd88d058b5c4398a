//! Bencher Metric Format: benchmark, measure, value with its bounds.

use serde_json::{Map, Value, json};

use super::{ExportError, figures};
use crate::{record::Run, statistics::Metric};

/// Longest name of a benchmark.
const NAME_MAX: usize = 1024;

pub(super) fn metrics(run: &Run) -> Result<String, ExportError> {
    let mut benchmarks = Map::new();
    for (subject, phase, metric, interval) in figures(run) {
        // `latency` is in nanoseconds and `throughput` in operations per second by definition; others are ours.
        let (slug, factor) = match metric {
            Metric::ResponseP50 => ("latency", 1e3),
            Metric::ResponseP95 => ("p95-latency", 1e3),
            Metric::ResponseP99 => ("p99-latency", 1e3),
            Metric::EndToEndP95 => ("p95-end-to-end-latency", 1e3),
            Metric::Throughput => ("throughput", 1.0),
            Metric::CpuPerMessage => ("cpu-ns-per-message", 1e3),
            Metric::RssPeak => ("memory-peak-bytes", 1.0),
            _ => continue,
        };
        let mut value = json!({ "value": interval.median * factor });
        if let Some([low, high]) = interval.ci95 {
            value["lower_value"] = json!(low * factor);
            value["upper_value"] = json!(high * factor);
        }
        let name: String =
            format!("{}/{}/{phase}", subject.name, run.profile_name()).chars().take(NAME_MAX).collect();
        let benchmark = benchmarks.entry(name).or_insert_with(|| Value::Object(Map::new()));
        benchmark[slug] = value;
    }
    Ok(serde_json::to_string_pretty(&benchmarks)? + "\n")
}
