//! Waits for due times inside a runtime, on a kernel timer instead of tokio's, which is a millisecond coarse.

use std::io;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

use crate::clock::{self, Nanos, Pacing};

/// With [`Pacing::Spin`], the last stretch before a due time, in which the runtime is polled without sleep.
const SPIN_NS: u64 = 60_000;
/// The longest uninterrupted sleep, so that a stop signal is seen in time.
const SLICE_NS: u64 = 20_000_000;

/// One worker's timer.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    pacing: Pacing,
}

impl Alarm {
    #[expect(deprecated, reason = "its successor is unsafe; what it asks for, an owned descriptor, is given")]
    pub(super) fn new(pacing: Pacing) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
        Ok(Self { timer, pacing })
    }

    /// Returns at `due` or when `stopped` turns true, with the time at which it did.
    pub(super) async fn until(&self, due: Nanos, stopped: impl Fn() -> bool) -> io::Result<Nanos> {
        let early = match self.pacing {
            Pacing::Sleep => 0,
            Pacing::Spin => SPIN_NS,
        };
        loop {
            let now = clock::now();
            if now >= due || stopped() {
                return Ok(now);
            }
            if now + early >= due {
                tokio::task::yield_now().await;
                continue;
            }
            self.sleep((due - early).min(now + SLICE_NS)).await?;
        }
    }

    async fn sleep(&self, until: Nanos) -> io::Result<()> {
        let at = Timespec {
            tv_sec: i64::try_from(until / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(until % 1_000_000_000).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut fired = [0; 8];
            // It fails on readiness left over from an earlier sleep.
            if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut fired)?)) {
                return read.map(|_| ());
            }
        }
    }
}
