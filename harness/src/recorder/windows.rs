//! Latencies and counts in windows of equal length.
//!
//! A thread fills one window at a time; a finished one is kept as its few distinct values, so an hour of
//! half-second windows costs megabytes, not gigabytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use super::window_histogram;
use crate::clock::Nanos;

/// Where windows begin and how long they are, the same for all threads of a trial.
#[derive(Clone, Debug)]
pub struct WindowClock {
    /// Set when the load begins, after the threads that record were made.
    origin: Arc<AtomicU64>,
    length_ns: u64,
}

impl WindowClock {
    /// Windows of this length; the first begins with [`start`](Self::start).
    pub fn new(length_ns: u64) -> Self {
        Self { origin: Arc::new(AtomicU64::new(0)), length_ns }
    }

    /// The first window begins at `origin`.
    pub fn start(&self, origin: Nanos) {
        self.origin.store(origin, Ordering::Relaxed);
    }

    /// Length of a window.
    pub fn length_ns(&self) -> u64 {
        self.length_ns
    }

    /// The window of `now`, and when it ends.
    fn at(&self, now: Nanos) -> (u64, Nanos) {
        let origin = self.origin.load(Ordering::Relaxed);
        let index = now.saturating_sub(origin) / self.length_ns;
        (index, origin + (index + 1) * self.length_ns)
    }
}

/// One thread's windows.
#[derive(Debug)]
pub struct Windows {
    clock: WindowClock,
    index: u64,
    /// When the current window ends; saves a division at every message.
    until: Nanos,
    live: Histogram<u64>,
    failed: u64,
    finished: Vec<Finished>,
}

#[derive(Debug)]
struct Finished {
    index: u64,
    /// Distinct values and how often each occurred.
    values: Vec<(u64, u64)>,
    failed: u64,
}

/// All threads' windows, by index.
pub type WindowSeries = BTreeMap<u64, WindowCounts>;

/// What happened in one window.
#[derive(Debug)]
pub struct WindowCounts {
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// Failures.
    pub failed: u64,
}

impl Windows {
    /// No window yet.
    pub fn new(clock: WindowClock) -> Self {
        Self { clock, index: 0, until: 0, live: window_histogram(), failed: 0, finished: Vec::new() }
    }

    /// Something of this latency happened at `now`. Times of one thread do not go backwards.
    pub fn count(&mut self, now: Nanos, latency_ns: u64) {
        self.turn(now);
        self.live.saturating_record(latency_ns.max(1));
    }

    /// Something failed at `now`.
    pub fn fail(&mut self, now: Nanos) {
        self.turn(now);
        self.failed += 1;
    }

    /// The 95th percentile of the current window, or of the last finished one where the current is empty.
    pub fn recent_p95_ns(&self) -> Option<u64> {
        if !self.live.is_empty() {
            return Some(self.live.value_at_quantile(0.95));
        }
        let last = self.finished.last()?;
        let total: u64 = last.values.iter().map(|(_, n)| n).sum();
        let mut below = 0;
        last.values.iter().find_map(|&(value, n)| {
            below += n;
            (below * 20 >= total * 19).then_some(value)
        })
    }

    fn turn(&mut self, now: Nanos) {
        if now < self.until {
            return;
        }
        let (index, until) = self.clock.at(now);
        self.until = until;
        if index > self.index {
            self.finish();
            self.index = index;
        }
    }

    fn finish(&mut self) {
        if self.live.is_empty() && self.failed == 0 {
            return;
        }
        let values = self.live.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
        self.finished.push(Finished { index: self.index, values, failed: self.failed });
        self.live.reset();
        self.failed = 0;
    }

    /// Adds these windows to those of the other threads.
    pub fn merge_into(mut self, series: &mut WindowSeries) {
        self.finish();
        for window in self.finished {
            let counts = series
                .entry(window.index)
                .or_insert_with(|| WindowCounts { latency: window_histogram(), failed: 0 });
            counts.failed += window.failed;
            for (value, n) in window.values {
                counts.latency.saturating_record_n(value, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_threads_merge_without_loss() {
        let mut series = WindowSeries::new();
        for thread in 0..3 {
            let clock = WindowClock::new(100);
            clock.start(1_000);
            let mut windows = Windows::new(clock);
            for n in 0..50 {
                windows.count(1_000 + n * 10, 1_000 * (thread + 1));
            }
            windows.fail(1_490);
            windows.merge_into(&mut series);
        }
        assert_eq!(series.len(), 5);
        assert!(series.values().all(|w| w.latency.len() == 30));
        assert_eq!(series[&4].failed, 3);
        let median = series[&0].latency.value_at_quantile(0.5);
        assert!((2_000..2_020).contains(&median), "two digits: {median}");
    }

    #[test]
    fn the_recent_percentile_survives_the_turn_of_a_window() {
        let mut windows = Windows::new(WindowClock::new(100));
        for n in 1..=100 {
            windows.count(5, n * 1_000_000);
        }
        let before = windows.recent_p95_ns().unwrap();
        windows.fail(150);
        assert_eq!(windows.recent_p95_ns(), Some(before));
        assert!((95_000_000..=96_000_000).contains(&before), "{before}");
    }
}
