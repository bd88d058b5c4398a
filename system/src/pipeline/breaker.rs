//! A circuit breaker: after a run of failures calls fail at once for a while, then one probe decides.
//!
//! A plain state machine without clock or lock; the caller brings the time. Bound: one probe per cool-down.

use std::time::{Duration, Instant};

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub cool_down: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One probe is out; if its outcome never comes, the next is let through at `until`.
    Probing {
        until: Instant,
    },
}

/// One breaker, guarding one upstream.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    opened: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, opened: 0 }
    }

    /// Whether a call may go out now; if not, how long to wait before trying again.
    ///
    /// # Errors
    /// The time until the next probe.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::Probing { until } if now < until => Err(until - now),
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + self.config.cool_down };
                Ok(())
            }
        }
    }

    /// The upstream answered.
    pub fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// The upstream did not answer.
    pub fn failed(&mut self, now: Instant) {
        let failures = match self.state {
            State::Closed { failures } => failures + 1,
            State::Open { .. } => return,
            State::Probing { .. } => self.config.failures,
        };
        if failures >= self.config.failures {
            self.state = State::Open { until: now + self.config.cool_down };
            self.opened += 1;
        } else {
            self.state = State::Closed { failures };
        }
    }

    /// Whether calls are refused or only probed.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// How often it opened.
    pub fn times_opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { failures: 3, cool_down: Duration::from_secs(1) };

    #[test]
    fn opens_after_a_run_of_failures_and_closes_after_a_good_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::new(CONFIG);
        for _ in 0..2 {
            breaker.failed(start);
        }
        breaker.succeeded();
        for _ in 0..2 {
            breaker.failed(start);
        }
        assert_eq!(breaker.admit(start), Ok(()), "a success between failures begins the count anew");
        breaker.failed(start);
        assert_eq!(breaker.admit(start), Err(Duration::from_secs(1)));

        let later = start + Duration::from_secs(1);
        assert_eq!(breaker.admit(later), Ok(()));
        assert!(breaker.admit(later).is_err(), "only one probe at a time");
        breaker.failed(later);
        assert!(breaker.admit(later + Duration::from_millis(999)).is_err(), "a failed probe opens it again");

        let much_later = later + Duration::from_secs(1);
        assert_eq!(breaker.admit(much_later), Ok(()));
        breaker.succeeded();
        assert!(!breaker.is_open());
        assert_eq!(breaker.times_opened(), 2);
    }

    #[test]
    fn a_probe_that_is_never_answered_does_not_lock_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig { failures: 1, ..CONFIG });
        breaker.failed(start);
        assert_eq!(breaker.admit(start + Duration::from_secs(1)), Ok(()));
        assert_eq!(breaker.admit(start + Duration::from_secs(2)), Ok(()));
    }
}
