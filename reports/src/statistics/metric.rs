//! The metrics of a phase: key, unit, which way is better, and where the value comes from.

use std::str::FromStr;

use crate::record::{Latency, Phase, Provisioner, Trial, Usage};

/// A figure of one phase of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Acknowledged messages per second.
    Throughput,
    /// Received messages per second.
    Received,
    /// Due time to acknowledgement.
    ResponseP50,
    /// Due time to acknowledgement.
    ResponseP95,
    /// Due time to acknowledgement.
    ResponseP99,
    /// Due time to acknowledgement.
    ResponseP999,
    /// Actual send to acknowledgement.
    ServiceP95,
    /// Due time to actual send.
    ScheduleLagP99,
    /// Due time to the consumer's hands.
    EndToEndP50,
    /// Due time to the consumer's hands.
    EndToEndP95,
    /// Due time to the consumer's hands.
    EndToEndP99,
    /// Messages rejected.
    Errors,
    /// CPU of the subject per acknowledged message, over the whole trial.
    CpuPerMessage,
    /// Highest resident memory of the subject, over the whole trial.
    RssPeak,
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// What a metric's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Microseconds,
    /// Messages per second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Messages.
    Messages,
}

impl Metric {
    /// In the order of summaries.
    pub const ALL: [Self; 14] = [
        Self::Throughput,
        Self::Received,
        Self::ResponseP50,
        Self::ResponseP95,
        Self::ResponseP99,
        Self::ResponseP999,
        Self::ServiceP95,
        Self::ScheduleLagP99,
        Self::EndToEndP50,
        Self::EndToEndP95,
        Self::EndToEndP99,
        Self::Errors,
        Self::CpuPerMessage,
        Self::RssPeak,
    ];

    /// The key in the record's summaries and comparisons.
    pub fn key(self) -> &'static str {
        match self {
            Self::Throughput => "throughput_per_s",
            Self::Received => "received_per_s",
            Self::ResponseP50 => "response_p50_us",
            Self::ResponseP95 => "response_p95_us",
            Self::ResponseP99 => "response_p99_us",
            Self::ResponseP999 => "response_p999_us",
            Self::ServiceP95 => "service_p95_us",
            Self::ScheduleLagP99 => "schedule_lag_p99_us",
            Self::EndToEndP50 => "end_to_end_p50_us",
            Self::EndToEndP95 => "end_to_end_p95_us",
            Self::EndToEndP99 => "end_to_end_p99_us",
            Self::Errors => "errors",
            Self::CpuPerMessage => "cpu_us_per_message",
            Self::RssPeak => "rss_peak_bytes",
        }
    }

    /// In words, for headings and terminals.
    pub fn title(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Received => "received",
            Self::ResponseP50 => "response p50",
            Self::ResponseP95 => "response p95",
            Self::ResponseP99 => "response p99",
            Self::ResponseP999 => "response p99.9",
            Self::ServiceP95 => "service p95",
            Self::ScheduleLagP99 => "schedule lag p99",
            Self::EndToEndP50 => "end to end p50",
            Self::EndToEndP95 => "end to end p95",
            Self::EndToEndP99 => "end to end p99",
            Self::Errors => "errors",
            Self::CpuPerMessage => "CPU per message",
            Self::RssPeak => "peak memory",
        }
    }

    /// What the number counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Throughput | Self::Received => Unit::PerSecond,
            Self::Errors => Unit::Messages,
            Self::RssPeak => Unit::Bytes,
            _ => Unit::Microseconds,
        }
    }

    /// Which way is better.
    pub fn better(self) -> Direction {
        match self {
            Self::Throughput | Self::Received => Direction::Higher,
            _ => Direction::Lower,
        }
    }

    /// The value in one phase of one trial; `None` when it was not measured.
    ///
    /// CPU and memory are the subject's where its processes could be watched, the trial process's when the subject
    /// is embedded in it, and absent otherwise.
    pub fn of(self, provisioner: Provisioner, trial: &Trial, phase: &Phase) -> Option<f64> {
        let latency = |of: &Latency, pick: fn(&Latency) -> f64| (of.count > 0).then(|| pick(of));
        #[expect(clippy::cast_precision_loss, reason = "counts and bytes past 2^53 do not occur")]
        match self {
            Self::Throughput => Some(phase.achieved_per_s),
            Self::Received => Some(phase.received_per_s),
            Self::ResponseP50 => latency(&phase.response_us, |l| l.p50),
            Self::ResponseP95 => latency(&phase.response_us, |l| l.p95),
            Self::ResponseP99 => latency(&phase.response_us, |l| l.p99),
            Self::ResponseP999 => latency(&phase.response_us, |l| l.p999),
            Self::ServiceP95 => latency(&phase.service_us, |l| l.p95),
            Self::ScheduleLagP99 => latency(&phase.schedule_lag_us, |l| l.p99),
            Self::EndToEndP50 => latency(&phase.end_to_end_us, |l| l.p50),
            Self::EndToEndP95 => latency(&phase.end_to_end_us, |l| l.p95),
            Self::EndToEndP99 => latency(&phase.end_to_end_us, |l| l.p99),
            Self::Errors => Some(phase.errors as f64),
            Self::CpuPerMessage => usage(provisioner, trial).map(|usage| usage.cpu_us_per_message),
            Self::RssPeak => usage(provisioner, trial).map(|usage| usage.rss_peak_bytes as f64),
        }
    }
}

/// Whose CPU and memory stand for the subject's.
fn usage(provisioner: Provisioner, trial: &Trial) -> Option<Usage> {
    let resources = &trial.resources;
    if resources.subject_observed {
        Some(resources.subject)
    } else if provisioner == Provisioner::Embedded {
        Some(resources.harness)
    } else {
        None
    }
}

impl FromStr for Metric {
    type Err = ();

    fn from_str(key: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|metric| metric.key() == key).ok_or(())
    }
}
