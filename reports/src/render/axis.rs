//! Axes: linear, logarithmic, and the axis of percentiles on which each step to the right is ten times rarer.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::figures::{self, magnitude, significant};

/// Values that span less than this factor share a linear axis from zero.
const DECADE: f64 = 10.0;

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    Linear,
    Log,
    Percentile,
}

/// An axis from one value to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    spread: Spread,
}

impl Axis {
    /// Linear from zero where the values stay within a decade, logarithmic otherwise, with a little air at the ends.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = figures::bounds(values);
        if high / low < DECADE {
            return Self::linear(0.0, high * 1.12);
        }
        Self::log(low / 1.5, high * 1.5)
    }

    /// Logarithmic, over whole decades.
    pub(super) fn decades(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = figures::bounds(values);
        let floor = 10_f64.powi(magnitude(low));
        let above = 10_f64.powi(magnitude(high));
        let ceiling = if high > above { above * 10.0 } else { above };
        Self::log(floor, ceiling.max(floor * 10.0))
    }

    pub(super) fn linear(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, spread: Spread::Linear }
    }

    fn log(low: f64, high: f64) -> Self {
        Self { low, high, spread: Spread::Log }
    }

    /// Quantiles from 0 to `high` (below 1), spread by rarity.
    pub(super) fn percentiles(high: f64) -> Self {
        Self { low: 0.0, high, spread: Spread::Percentile }
    }

    /// Place of a value, 0 at the low end, 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        let spread = |value: f64| match self.spread {
            Spread::Linear => value,
            Spread::Log => value.max(f64::MIN_POSITIVE).log10(),
            Spread::Percentile => -(1.0 - value).max(1e-12).log10(),
        };
        let (low, high) = (spread(self.low), spread(self.high));
        ((spread(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// Where lines and labels stand, at most about `most` of them.
    pub(super) fn ticks(&self, most: usize) -> Vec<f64> {
        match self.spread {
            Spread::Linear => self.linear_ticks(most),
            Spread::Log => self.log_ticks(most),
            Spread::Percentile => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999]
                .into_iter()
                .filter(|q| *q <= self.high + 1e-12)
                .collect(),
        }
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a handful of ticks")]
        let raw = (self.high - self.low) / most.max(1) as f64;
        let unit = 10_f64.powi(magnitude(raw));
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= raw * 0.999).unwrap_or(raw);
        let first = (self.low / step).ceil();
        (0..=most + 1)
            .map(|index| {
                #[expect(clippy::cast_precision_loss, reason = "a handful of ticks")]
                let index = index as f64;
                (first + index) * step
            })
            .take_while(|tick| *tick <= self.high * 1.000_001)
            .collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let in_range = |tick: &f64| *tick >= self.low * 0.999 && *tick <= self.high * 1.001;
        let decades = magnitude(self.low) - 1..=magnitude(self.high) + 1;
        let of = |steps: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|e| steps.iter().map(move |m| m * 10_f64.powi(e)));
            all.filter(in_range).collect()
        };
        let fine = of(&[1.0, 3.0]);
        if fine.len() <= most {
            return fine;
        }
        let whole = of(&[1.0]);
        let stride = whole.len().div_ceil(most.max(1));
        whole.into_iter().step_by(stride).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (from, to) = (f64::from(limit.0), f64::from(limit.1));
        #[expect(clippy::cast_possible_truncation, reason = "between two i32")]
        let place = (from + (to - from) * self.place(*value)).round() as i32;
        place
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks(hint.max_num_points())
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// A latency on an axis, each tick in the unit that suits it.
pub(super) fn latency_tick(us: f64) -> String {
    match us {
        0.0 => "0".to_owned(),
        us if us < 0.995 => format!("{} ns", trimmed(us * 1_000.0)),
        us if us < 995.0 => format!("{} µs", trimmed(us)),
        us if us < 995_000.0 => format!("{} ms", trimmed(us / 1_000.0)),
        us => format!("{} s", trimmed(us / 1_000_000.0)),
    }
}

/// A rate on an axis.
pub(super) fn rate_tick(per_s: f64) -> String {
    match per_s {
        per_s if per_s >= 995_000.0 => format!("{}M/s", trimmed(per_s / 1e6)),
        per_s if per_s >= 995.0 => format!("{}k/s", trimmed(per_s / 1e3)),
        per_s => format!("{}/s", trimmed(per_s)),
    }
}

/// Messages on an axis.
pub(super) fn count_tick(count: f64) -> String {
    match count {
        count if count >= 995_000.0 => format!("{}M", trimmed(count / 1e6)),
        count if count >= 995.0 => format!("{}k", trimmed(count / 1e3)),
        count => trimmed(count),
    }
}

/// Memory on an axis in MiB.
pub(super) fn mebibyte_tick(mib: f64) -> String {
    format!("{} MiB", trimmed(mib))
}

/// A quantile on an axis.
pub(super) fn percent_tick(quantile: f64) -> String {
    format!("{} %", trimmed(quantile * 100.0))
}

/// At most seven significant digits, without zeros that say nothing.
pub(super) fn trimmed(value: f64) -> String {
    let text = significant(value, 7);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
