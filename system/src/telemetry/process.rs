//! Figures of this process under the names that Prometheus client libraries share, read from `/proc` at each
//! scrape. Where `/proc` is missing the series are absent.

use std::time::{SystemTime, UNIX_EPOCH};

use super::metrics::Registry;

/// Adds `process_*` and, inside a tokio runtime, `tokio_alive_tasks`.
pub fn register(registry: &Registry) {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs_f64()).ok();
    registry.gauge_fn(
        "process_start_time_seconds",
        "Unix time at which this service was started.",
        &[],
        move || started,
    );
    registry.gauge_fn("process_resident_memory_bytes", "Resident memory.", &[], || {
        status_field("VmRSS:").map(|kib| kib * 1024.0)
    });
    registry.gauge_fn("process_virtual_memory_bytes", "Virtual memory.", &[], || {
        status_field("VmSize:").map(|kib| kib * 1024.0)
    });
    registry.gauge_fn("process_threads", "Threads.", &[], || status_field("Threads:"));
    registry.gauge_fn("process_open_fds", "Open file descriptors.", &[], open_files);
    registry.counter_fn("process_cpu_seconds_total", "Processor time used.", &[], cpu_seconds);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let metrics = runtime.metrics();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
        registry.gauge_fn("tokio_alive_tasks", "Tasks alive in the runtime.", &[], move || {
            Some(metrics.num_alive_tasks() as f64)
        });
    }
}

fn status_field(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
fn open_files() -> Option<f64> {
    // The listing itself holds one descriptor.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn cpu_seconds() -> Option<f64> {
    // Linux reports these fields in units of 1/100 s on every architecture (USER_HZ).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in brackets and may hold blanks; the fields after it start with the state.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: f64 = fields.get(11)?.parse().ok()?;
    let system: f64 = fields.get(12)?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn figures_of_this_process_are_exposed() {
        let registry = Registry::default();
        register(&registry);
        let text = registry.render();
        for name in
            ["process_resident_memory_bytes", "process_open_fds", "process_threads", "tokio_alive_tasks"]
        {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{line}");
        }
    }
}
