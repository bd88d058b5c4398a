//! A histogram with fixed bounds; recording is three relaxed atomic additions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations counted by bucket.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds_s: &'static [f64],
    /// The same bounds in nanoseconds, so that recording compares integers.
    bounds_ns: Vec<u64>,
    /// One per bound and one for what is above the last.
    buckets: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl Histogram {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounds are small and positive"
    )]
    pub(super) fn new(bounds_s: &'static [f64]) -> Self {
        Self(Arc::new(Inner {
            bounds_s,
            bounds_ns: bounds_s.iter().map(|bound| (bound * 1e9).round() as u64).collect(),
            buckets: (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
        }))
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.0.bounds_ns.partition_point(|bound| *bound < nanos);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Calls `line` with suffix, `le` and value of every exposed line. The count is the sum of the buckets
    /// read here, so a scrape under load is consistent in itself.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
    pub(super) fn render(&self, mut line: impl FnMut(&str, Option<&str>, f64)) {
        let mut cumulative = 0;
        for (bucket, bound) in self.0.buckets.iter().zip(self.0.bounds_s) {
            cumulative += bucket.load(Ordering::Relaxed);
            line("_bucket", Some(&bound.to_string()), cumulative as f64);
        }
        cumulative += self.0.buckets[self.0.bounds_s.len()].load(Ordering::Relaxed);
        line("_bucket", Some("+Inf"), cumulative as f64);
        line("_sum", None, self.0.sum_ns.load(Ordering::Relaxed) as f64 / 1e9);
        line("_count", None, cumulative as f64);
    }
}
