//! Where latencies and counts go while the load runs.
//!
//! Each producer and each consumer has recorders of its own; nothing is shared but the counters in
//! [`Progress`], and all is merged after the trial. Histograms hold nanoseconds at three digits for the
//! phases, two digits for the windows of the time series.

use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use queuebench_reports::histograms::{HIGHEST_NS, new_histogram};

use crate::clock::Nanos;

mod windows;

pub use windows::{WindowClock, WindowCounts, WindowSeries, Windows};

/// An empty histogram of a window.
fn window_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 2).expect("the bounds are constants that fit")
}

/// What a producer's thread records as it sends.
#[derive(Debug)]
pub struct SendRecorder {
    /// Due time to actual send, by phase.
    pub schedule_lag: Vec<Histogram<u64>>,
    /// Messages sent, by phase.
    pub sent: Vec<u64>,
    /// Times that the bound on messages in flight made a due message wait, by phase.
    pub blocked: Vec<u64>,
    /// When the last message of a phase was sent.
    pub last_sent: Vec<Nanos>,
    /// Lag over time.
    pub windows: Windows,
}

impl SendRecorder {
    /// For `phases` phases.
    pub fn new(phases: usize, windows: Windows) -> Self {
        Self {
            schedule_lag: (0..phases).map(|_| new_histogram()).collect(),
            sent: vec![0; phases],
            blocked: vec![0; phases],
            last_sent: vec![0; phases],
            windows,
        }
    }

    /// A message of `phase` that was due at `due` goes out at `now`.
    pub fn send(&mut self, phase: usize, due: Nanos, now: Nanos) {
        let lag = now.saturating_sub(due);
        self.schedule_lag[phase].saturating_record(lag.max(1));
        self.sent[phase] += 1;
        self.last_sent[phase] = now;
        self.windows.count(now, lag);
    }
}

/// What is recorded as acknowledgements arrive.
#[derive(Debug)]
pub struct AckRecorder {
    /// Due time to acknowledgement, by phase.
    pub response: Vec<Histogram<u64>>,
    /// Actual send to acknowledgement, by phase.
    pub service: Vec<Histogram<u64>>,
    /// Messages refused, by phase.
    pub rejected: Vec<u64>,
    /// Messages without a clear answer, by phase.
    pub unknown: Vec<u64>,
    /// When the last message of a phase was acknowledged.
    pub last_acknowledged: Vec<Nanos>,
    /// Response over time.
    pub windows: Windows,
}

impl AckRecorder {
    /// For `phases` phases.
    pub fn new(phases: usize, windows: Windows) -> Self {
        Self {
            response: (0..phases).map(|_| new_histogram()).collect(),
            service: (0..phases).map(|_| new_histogram()).collect(),
            rejected: vec![0; phases],
            unknown: vec![0; phases],
            last_acknowledged: vec![0; phases],
            windows,
        }
    }

    /// A message of `phase` is acknowledged at `now`.
    pub fn acknowledge(&mut self, phase: usize, due: Nanos, sent: Nanos, now: Nanos) {
        let response = now.saturating_sub(due);
        self.response[phase].saturating_record(response.max(1));
        self.service[phase].saturating_record(now.saturating_sub(sent).max(1));
        self.last_acknowledged[phase] = now;
        self.windows.count(now, response);
    }

    /// A message of `phase` was refused at `now`.
    pub fn reject(&mut self, phase: usize, now: Nanos) {
        self.rejected[phase] += 1;
        self.windows.fail(now);
    }
}

/// What a consumer's thread records as it receives.
#[derive(Debug)]
pub struct ReceiveRecorder {
    /// Due time to the consumer's hands, by phase of the message.
    pub end_to_end: Vec<Histogram<u64>>,
    /// End-to-end over time.
    pub windows: Windows,
}

impl ReceiveRecorder {
    /// For `phases` phases.
    pub fn new(phases: usize, windows: Windows) -> Self {
        Self { end_to_end: (0..phases).map(|_| new_histogram()).collect(), windows }
    }

    /// A message of `phase` is in the consumer's hands at `now`.
    pub fn receive(&mut self, phase: usize, due: Nanos, now: Nanos) {
        let end_to_end = now.saturating_sub(due);
        if let Some(histogram) = self.end_to_end.get_mut(phase) {
            histogram.saturating_record(end_to_end.max(1));
        }
        self.windows.count(now, end_to_end);
    }
}

/// Counters that the coordinator reads while the load runs. Each has one writer, so an increment is a load
/// and a store.
#[derive(Debug, Default)]
pub struct Progress {
    /// Sent, received or settled, as the owner counts.
    pub done: AtomicU64,
    /// Of these, without a clear answer.
    pub unknown: AtomicU64,
    /// Of these, refused.
    pub failed: AtomicU64,
}

impl Progress {
    /// Adds to a counter of which the caller is the only writer.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    /// Reads a counter.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Acquire)
    }
}
