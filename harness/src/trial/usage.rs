//! What this process costs.

use procfs::process::Process;
use queuebench_reports::record::Usage;

/// CPU, memory and I/O of this process so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnUsage {
    pub(crate) cpu_s: f64,
    pub(crate) rss_peak_bytes: u64,
    pub(crate) disk_written_bytes: u64,
}

impl OwnUsage {
    /// Reads `/proc/self`; zeros where the kernel does not tell.
    pub(crate) fn now() -> Self {
        let Ok(process) = Process::myself() else { return Self::default() };
        let ticks = procfs::ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "CPU ticks of one process stay far below 2^53")]
        let cpu_s = process.stat().map_or(0.0, |s| (s.utime + s.stime) as f64 / ticks as f64);
        let rss_peak_bytes = process.status().ok().and_then(|s| s.vmhwm).unwrap_or(0) * 1024;
        let disk_written_bytes = process.io().map_or(0, |io| io.write_bytes);
        Self { cpu_s, rss_peak_bytes, disk_written_bytes }
    }

    /// What was used since `before`, spread over `messages`.
    pub(crate) fn since(&self, before: &Self, messages: u64) -> Usage {
        let cpu_s = self.cpu_s - before.cpu_s;
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 messages")]
        let cpu_us_per_message = if messages == 0 { 0.0 } else { cpu_s * 1e6 / messages as f64 };
        Usage {
            cpu_s,
            cpu_us_per_message,
            rss_peak_bytes: self.rss_peak_bytes,
            disk_written_bytes: self.disk_written_bytes - before.disk_written_bytes,
            network_bytes: None,
        }
    }
}
