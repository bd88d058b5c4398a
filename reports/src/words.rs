//! Words and choices that the report, the summaries and the terminal share.

use crate::{
    answer::{headline_phase, throughput_phase},
    figures::Scale,
    record::{Capacity, CapacityLimit, Durability, Provisioner, Run},
    statistics::{Metric, Unit},
};

/// How a subject was started, in a word.
pub(crate) fn provisioner(provisioner: Provisioner) -> &'static str {
    match provisioner {
        Provisioner::Embedded => "embedded",
        Provisioner::Docker => "docker",
        Provisioner::Native => "native",
        Provisioner::External => "external",
    }
}

/// What an acknowledgement survives, in words.
pub(crate) fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Volatile => "volatile",
        Durability::ProcessCrash => "process crash",
        Durability::PowerLoss => "power loss",
    }
}

/// The columns of the answer: a metric in the phase that shows it best.
pub(crate) fn answer_columns(run: &Run) -> Vec<(Metric, String)> {
    let latency = headline_phase(run).or_else(|| throughput_phase(run));
    let highest = throughput_phase(run).or_else(|| headline_phase(run));
    let mut columns = Vec::new();
    if let Some(phase) = latency {
        columns.extend([(Metric::ResponseP95, phase.clone()), (Metric::ResponseP99, phase)]);
    }
    if let Some(phase) = highest {
        columns.extend([(Metric::Throughput, phase.clone())]);
        columns.extend([(Metric::CpuPerMessage, phase.clone()), (Metric::RssPeak, phase)]);
    }
    columns
}

/// Why a found rate is not higher, where that is not the objective.
pub(crate) fn capacity_flag(capacity: &Capacity) -> Option<&'static str> {
    match (capacity.highest_per_s, capacity.limited_by) {
        (None, _) => Some("objective held at no rate"),
        (_, CapacityLimit::Slo) => None,
        (_, CapacityLimit::Harness) => Some("at least: harness was the limit"),
        (_, CapacityLimit::UpperBound) => Some("at least: no higher rate allowed"),
        (_, CapacityLimit::Time) => Some("at least: time was up"),
    }
}

/// One unit for a metric over all subjects of a phase.
pub(crate) fn scale(run: &Run, phase: &str, metrics: &[Metric]) -> Scale {
    let values = run.subjects.iter().filter_map(|subject| subject.summary.get(phase)).flat_map(|summary| {
        metrics.iter().filter_map(|metric| summary.get(metric.key())).map(|interval| interval.median)
    });
    Scale::of(metrics.first().map_or(Unit::Messages, |metric| metric.unit()), values)
}
