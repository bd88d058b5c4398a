//! Which children are up. A child that failed or did not answer is left out for a while, then tried with
//! single messages until it answers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::strategy::ChildSet;

/// The value of a child that is up.
const UP: u64 = 0;

#[derive(Debug)]
pub(super) struct Health {
    started: Instant,
    retry_after_ms: u64,
    /// For each child: [`UP`], or the time from which it may be tried again, in milliseconds since the start.
    next_try_ms: Box<[AtomicU64]>,
}

/// Whom one message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tried: ChildSet,
    /// Of the tried, those that were down.
    pub(super) probes: ChildSet,
}

impl Health {
    pub(super) fn new(children: usize, retry_after: Duration) -> Self {
        Self {
            started: Instant::now(),
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            next_try_ms: (0..children).map(|_| AtomicU64::new(UP)).collect(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan { tried: ChildSet::default(), probes: ChildSet::default() };
        for (child, next) in self.next_try_ms.iter().enumerate() {
            let next_try = next.load(Ordering::Relaxed);
            if next_try == UP {
                plan.tried = plan.tried.with(child);
                continue;
            }
            let now = self.now_ms();
            let later = now.saturating_add(self.retry_after_ms).max(1);
            // Of all who publish at this time one tries.
            if now >= next_try
                && next.compare_exchange(next_try, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                plan.tried = plan.tried.with(child);
                plan.probes = plan.probes.with(child);
            }
        }
        plan
    }

    pub(super) fn up(&self, child: usize) {
        if self.next_try_ms[child].load(Ordering::Relaxed) != UP {
            self.next_try_ms[child].store(UP, Ordering::Relaxed);
        }
    }

    pub(super) fn down(&self, child: usize) {
        let later = self.now_ms().saturating_add(self.retry_after_ms).max(1);
        self.next_try_ms[child].store(later, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_child_that_is_down_is_tried_once_in_a_while_until_it_is_up() {
        let health = Health::new(2, Duration::from_secs(1));
        let both = ChildSet::all(2);
        let second = ChildSet::default().with(1);
        assert_eq!(health.plan(), Plan { tried: both, probes: ChildSet::default() });
        health.down(1);
        assert_eq!(health.plan().tried, both.without(second));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.plan(), Plan { tried: both, probes: second });
        assert_eq!(health.plan().tried, both.without(second), "one message tries, not all");
        health.up(1);
        assert_eq!(health.plan(), Plan { tried: both, probes: ChildSet::default() });
    }
}
