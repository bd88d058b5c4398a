//! What a subject's processes use, sampled from `/proc` while a trial runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procfs::process::Process;
use queuebench_reports::record::{Trial, Usage};

use crate::clock::{self, Nanos};

/// Watches a group of processes.
pub(super) struct Sampler {
    pids: Vec<i32>,
    /// CPU and bytes written of each process when it was last seen.
    last: HashMap<i32, (f64, u64)>,
    samples: Vec<Sample>,
    /// Alive in the subject's services, as they say themselves; 0 while it is not known.
    tasks: Option<Arc<AtomicU64>>,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    at: Nanos,
    cpu_s: f64,
    rss_bytes: u64,
    disk_written_bytes: u64,
    open_files: u64,
    tasks: u64,
}

/// What was seen.
pub(super) struct SubjectUsage {
    samples: Vec<Sample>,
}

impl Sampler {
    /// Four looks a second cost a few system calls each.
    pub(super) const INTERVAL: Duration = Duration::from_millis(250);

    pub(super) fn new(pids: &[i32]) -> Self {
        Self { pids: pids.to_vec(), last: HashMap::new(), samples: Vec::new(), tasks: None }
    }

    /// Notes this count with every sample.
    pub(super) fn with_tasks(mut self, tasks: Option<Arc<AtomicU64>>) -> Self {
        self.tasks = tasks;
        self
    }

    /// The load begins: what was used before does not count.
    pub(super) fn begin(&mut self) {
        self.samples.clear();
        self.sample();
    }

    /// From now on these processes: a server that was started again has others. What the earlier ones used
    /// stays counted.
    pub(super) fn follow(&mut self, pids: Vec<i32>) {
        self.pids = pids;
    }

    pub(super) fn sample(&mut self) {
        if self.pids.is_empty() && self.last.is_empty() {
            return;
        }
        let ticks = procfs::ticks_per_second();
        let mut sample = Sample { at: clock::now(), ..Sample::default() };
        for &pid in &self.pids {
            let Ok(process) = Process::new(pid) else { continue };
            if let Ok(stat) = process.stat() {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "CPU ticks of one process stay far below 2^53"
                )]
                let cpu_s = (stat.utime + stat.stime) as f64 / ticks as f64;
                self.last.entry(pid).or_default().0 = cpu_s;
                sample.rss_bytes += stat.rss * procfs::page_size();
            }
            sample.open_files += process.fd_count().map_or(0, |count| count as u64);
            if let Ok(io) = process.io() {
                self.last.entry(pid).or_default().1 = io.write_bytes;
            }
        }
        sample.tasks = self.tasks.as_ref().map_or(0, |tasks| tasks.load(Ordering::Relaxed));
        sample.cpu_s = self.last.values().map(|(cpu_s, _)| cpu_s).sum();
        sample.disk_written_bytes = self.last.values().map(|(_, written)| written).sum();
        self.samples.push(sample);
    }

    pub(super) fn finish(self) -> SubjectUsage {
        SubjectUsage { samples: self.samples }
    }
}

impl SubjectUsage {
    /// Puts the subject's side into the record of a trial whose load began at `started`.
    #[expect(clippy::cast_precision_loss, reason = "counts of messages and nanoseconds below 2^53")]
    pub(super) fn fill(&self, trial: &mut Trial, started: Nanos) {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else { return };
        let cpu_s = (last.cpu_s - first.cpu_s).max(0.0);
        let messages = trial.delivery.acknowledged;
        trial.resources.subject = Usage {
            cpu_s,
            cpu_us_per_message: if messages == 0 { 0.0 } else { cpu_s * 1e6 / messages as f64 },
            rss_peak_bytes: self.samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0),
            disk_written_bytes: last.disk_written_bytes.saturating_sub(first.disk_written_bytes),
            network_bytes: None,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a window is shorter than a century"
        )]
        let length_ns = (trial.series.window_s * 1e9) as Nanos;
        for (window, index) in trial.series.windows.iter_mut().zip(0_u64..) {
            let from = started + index * length_ns;
            let (Some(a), Some(b)) = (self.cpu_at(from), self.cpu_at(from + length_ns)) else { continue };
            window.subject_cpu_cores = Some((b - a).max(0.0) / trial.series.window_s);
            let within = self.samples.iter().filter(|s| (from..from + length_ns).contains(&s.at));
            window.subject_rss_bytes = within.clone().map(|s| s.rss_bytes).max();
            window.subject_open_files = within.clone().map(|s| s.open_files).max();
            window.subject_tasks = within.map(|s| s.tasks).max().filter(|tasks| *tasks > 0);
        }
    }

    /// CPU used by `at`, between the samples around it.
    #[expect(clippy::cast_precision_loss, reason = "differences of nanoseconds below 2^53")]
    fn cpu_at(&self, at: Nanos) -> Option<f64> {
        let after = self.samples.partition_point(|s| s.at < at);
        let b = self.samples.get(after)?;
        let Some(a) = after.checked_sub(1).and_then(|i| self.samples.get(i)) else { return Some(b.cpu_s) };
        let share = (at - a.at) as f64 / (b.at - a.at).max(1) as f64;
        Some(a.cpu_s + (b.cpu_s - a.cpu_s) * share)
    }
}
