//! One phase of one trial.

use serde::{Deserialize, Serialize};

use super::Settings;

/// A stretch of a trial with one load model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// From the profile.
    pub name: String,
    /// Open, closed, backlog build or drain.
    pub model: Model,
    /// Whether its figures count (a warm-up's do not).
    pub measured: bool,
    /// Seconds since the trial's start.
    pub start_s: f64,
    /// Seconds since the trial's start.
    pub end_s: f64,
    /// What the plan wanted, averaged over the phase; absent in a closed phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_per_s: Option<f64>,
    /// Acknowledged messages of this phase per second.
    pub achieved_per_s: f64,
    /// Messages received per second while the phase lasted.
    pub received_per_s: f64,
    /// Messages of this phase rejected by the subject or refused by its client.
    pub errors: u64,
    /// Messages of this phase without a clear answer.
    #[serde(default)]
    pub unknown: u64,
    /// Whether the load was what the plan wanted.
    pub load_verdict: LoadVerdict,
    /// Bound on messages in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Due time to acknowledgement.
    pub response_us: Latency,
    /// Actual send to acknowledgement.
    pub service_us: Latency,
    /// Due time to actual send.
    pub schedule_lag_us: Latency,
    /// Due time to the consumer's hands.
    pub end_to_end_us: Latency,
    /// Figures only some phases have (backlog build, drain, parity).
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub extra: Settings,
}

/// How load is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Messages are due on a schedule that waits for nobody.
    Open,
    /// A fixed number in flight.
    Closed,
}

/// Whether a phase offered what it was meant to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadVerdict {
    /// As planned.
    Ok,
    /// The subject did not keep up, so the schedule fell behind.
    OfferedRateNotReached,
    /// The harness itself did not keep up: the figures are not the subject's.
    GeneratorLimited,
}

/// A latency distribution in microseconds; percentiles from an HdrHistogram with three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Recorded values.
    pub count: u64,
    /// Smallest.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// 99.99th percentile.
    pub p9999: f64,
    /// Largest.
    pub max: f64,
}

impl Latency {
    /// The distribution of a histogram that was recorded in nanoseconds.
    pub fn from_nanoseconds(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a latency past 2^53 ns is 104 days")]
        let us = |ns: u64| ns as f64 / 1_000.0;
        let at = |q: f64| us(histogram.value_at_quantile(q));
        Self {
            count: histogram.len(),
            min: us(histogram.min()),
            mean: histogram.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: us(histogram.max()),
        }
    }
}
