//! Time: the system's monotonic clock in nanoseconds, and sleeps that end on time.
//!
//! All processes of one machine share this clock, so a due time written by one is comparable in another.
//! No wall clock enters a result.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::ClockId;
use rustix::time::Timespec;

/// A point on the system's monotonic clock, in nanoseconds.
pub type Nanos = u64;

/// Now.
pub fn now() -> Nanos {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at boot and is never negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// How a producer waits for a due time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// Sleep until it is due: 20 to 30 µs late at p50, next to no CPU.
    #[default]
    Sleep,
    /// Sleep until shortly before, then spin: under 1 µs late while a core is free, and a burden to the
    /// subject where cores are few.
    Spin,
}

/// The spin covers the wake-up of a sleep, which takes 20 to 30 µs.
const SPIN_NS: u64 = 60_000;

/// The longest uninterrupted sleep, so that a stop signal is seen in time.
const SLICE_NS: u64 = 20_000_000;

/// Lets this thread's sleeps end within a nanosecond of slack instead of the kernel's default of 50 µs.
/// Fails only where the kernel forbids it; sleeps are then 50 µs later, which the lag shows.
pub fn sharpen_this_thread() {
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::warn!(%error, "timer slack stays at the kernel's default");
    }
}

/// Sleeps until `due`, unless `stopped` turns true first. Returns the time at which it ended.
pub fn sleep_until(due: Nanos, pacing: Pacing, stopped: impl Fn() -> bool) -> Nanos {
    let early = match pacing {
        Pacing::Sleep => 0,
        Pacing::Spin => SPIN_NS,
    };
    loop {
        let at = now();
        if at + early >= due || stopped() {
            break;
        }
        let wake = (due - early).min(at + SLICE_NS);
        // An interrupted sleep is taken up again by the loop.
        let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &timespec(wake));
    }
    if pacing == Pacing::Spin {
        while now() < due && !stopped() {
            std::hint::spin_loop();
        }
    }
    now()
}

fn timespec(at: Nanos) -> Timespec {
    let at = Duration::from_nanos(at);
    Timespec {
        tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_at_or_after_its_due_time() {
        sharpen_this_thread();
        for pacing in [Pacing::Sleep, Pacing::Spin] {
            let due = now() + 3_000_000;
            assert!(sleep_until(due, pacing, || false) >= due);
        }
    }

    #[test]
    fn a_stop_ends_a_long_sleep() {
        let due = now() + 3_600_000_000_000;
        assert!(sleep_until(due, Pacing::Sleep, || true) < due);
    }
}
