//! How a service reaches the next one.

use std::time::Duration;

use serde::Deserialize;

use super::super::breaker::BreakerConfig;

/// The next service.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Base URLs, separated by commas, without a slash at the end; several share the work.
    pub url: String,
    /// How long a call may take, waiting for a connection included.
    pub timeout_ms: u64,
    /// How long connecting may take.
    pub connect_timeout_ms: u64,
    /// Failures in a row after which calls fail at once.
    pub breaker_failures: u32,
    /// How long they do, before a probe.
    pub breaker_cool_down_ms: u64,
    /// Speak plain HTTP even to a service that could take a stream.
    pub plain: bool,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self::to("")
    }
}

impl UpstreamConfig {
    /// The defaults for this URL.
    pub fn to(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            timeout_ms: 3_000,
            connect_timeout_ms: 1_000,
            breaker_failures: 5,
            breaker_cool_down_ms: 500,
            plain: false,
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn breaker(&self) -> BreakerConfig {
        BreakerConfig {
            failures: self.breaker_failures.max(1),
            cool_down: Duration::from_millis(self.breaker_cool_down_ms),
        }
    }
}
