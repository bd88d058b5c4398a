//! OpenMetrics text: the facts of a finished run, in base units.

use std::{collections::BTreeSet, fmt::Write as _};

use super::figures;
use crate::{
    histograms::{Histograms, Kind},
    record::{Delivery, Run, Subject},
    statistics::Metric,
};

/// Upper bounds of the latency buckets, in nanoseconds: 10 µs to 10 s.
const BUCKETS_NS: [u64; 19] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

pub(super) fn exposition(run: &Run, histograms: &Histograms) -> String {
    let mut out = String::new();
    family(&mut out, "queuebench_run", "info", None, "What was measured.");
    for subject in &run.subjects {
        let commit = run.environment.git_commit.as_deref().unwrap_or("");
        let labels = labels(&[
            ("run", &run.id),
            ("system", &subject.name),
            ("profile", run.profile_name()),
            ("git_sha", commit),
            ("version", &subject.version),
        ]);
        let _ = writeln!(out, "queuebench_run_info{labels} 1");
    }
    ledger(&mut out, run);
    throughput(&mut out, run);
    latency(&mut out, run, histograms);
    out.push_str("# EOF\n");
    out
}

fn family(out: &mut String, name: &str, kind: &str, unit: Option<&str>, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = unit {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let _ = writeln!(out, "# HELP {name} {help}");
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn ledger(out: &mut String, run: &Run) {
    type Family = (&'static str, &'static str, &'static str, &'static str, fn(&Delivery) -> u64);
    let families: [Family; 7] = [
        ("queuebench_messages_sent", "counter", "_total", "Messages tried.", |d| d.attempted),
        ("queuebench_messages_acknowledged", "counter", "_total", "Messages acknowledged.", |d| {
            d.acknowledged
        }),
        ("queuebench_messages_received", "counter", "_total", "Messages received.", |d| d.received),
        ("queuebench_messages_lost", "gauge", "", "Acknowledged and never received.", |d| d.lost),
        ("queuebench_messages_duplicated", "gauge", "", "Extra receipts.", |d| d.duplicated),
        ("queuebench_messages_reordered", "gauge", "", "Receipts out of order.", |d| d.reordered),
        ("queuebench_messages_unknown", "gauge", "", "Without a clear answer.", |d| d.unknown),
    ];
    for (name, kind, suffix, help, field) in families {
        family(out, name, kind, None, help);
        for subject in &run.subjects {
            let sum: u64 = subject.trials.iter().map(|trial| field(&trial.delivery)).sum();
            let _ = writeln!(out, "{name}{suffix}{} {sum}", labels(&[("system", &subject.name)]));
        }
    }
}

fn throughput(out: &mut String, run: &Run) {
    let name = "queuebench_throughput_messages_per_second";
    family(out, name, "gauge", None, "Median of acknowledged messages per second.");
    for (subject, phase, metric, interval) in figures(run) {
        if metric == Metric::Throughput {
            let labels = labels(&[("system", &subject.name), ("phase", phase)]);
            let _ = writeln!(out, "{name}{labels} {}", interval.median);
        }
    }
}

fn latency(out: &mut String, run: &Run, histograms: &Histograms) {
    let name = "queuebench_latency_seconds";
    family(out, name, "histogram", Some("seconds"), "Latency of all trials of a measured phase.");
    let measured: BTreeSet<String> = crate::statistics::measured_phases(run).into_iter().collect();
    let stages = [
        (Kind::Response, "publish"),
        (Kind::EndToEnd, "e2e"),
        (Kind::ScheduleLag, "schedule"),
        (Kind::Service, "service"),
    ];
    for subject in &run.subjects {
        for phase in &measured {
            for (kind, stage) in stages {
                one_latency(out, name, subject, phase, stage, histograms, kind);
            }
        }
    }
}

fn one_latency(
    out: &mut String,
    name: &str,
    subject: &Subject,
    phase: &str,
    stage: &str,
    histograms: &Histograms,
    kind: Kind,
) {
    let Some(merged) = histograms.merged(&subject.name, phase, kind) else { return };
    let label = |le: Option<&str>| {
        let mut pairs = vec![("system", subject.name.as_str()), ("phase", phase), ("stage", stage)];
        pairs.extend(le.map(|le| ("le", le)));
        labels(&pairs)
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    for bound in BUCKETS_NS {
        let seconds = bound as f64 / 1e9;
        let le = if seconds.fract() == 0.0 { format!("{seconds:.1}") } else { seconds.to_string() };
        let _ = writeln!(out, "{name}_bucket{} {}", label(Some(&le)), merged.count_between(0, bound));
    }
    let _ = writeln!(out, "{name}_bucket{} {}", label(Some("+Inf")), merged.len());
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 messages")]
    let sum = merged.mean() / 1e9 * merged.len() as f64;
    let _ = writeln!(out, "{name}_count{} {}", label(None), merged.len());
    let _ = writeln!(out, "{name}_sum{} {sum}", label(None));
}
