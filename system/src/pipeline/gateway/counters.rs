//! What only the gateway counts.

use crate::telemetry::metrics::{Counter, Registry};

/// Calls to one service by outcome.
#[derive(Debug)]
pub(super) struct UpstreamCounters {
    success: Counter,
    error: Counter,
}

impl UpstreamCounters {
    fn new(registry: &Registry, service: &'static str) -> Self {
        let counter = |status| {
            let labels = [("service", service), ("status", status)];
            registry.counter("gateway_upstream_requests_total", "Calls to the services behind.", &labels)
        };
        Self { success: counter("success"), error: counter("error") }
    }

    /// No answer and 5xx are errors.
    pub(super) fn record(&self, status: Option<u16>) {
        match status {
            Some(status) if status < 500 => self.success.increment(),
            _ => self.error.increment(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) ingest: UpstreamCounters,
    pub(super) processor: UpstreamCounters,
    pub(super) unauthorized: Counter,
    pub(super) rate_limited: Counter,
    pub(super) overloaded: Counter,
    pub(super) too_large: Counter,
}

impl Counters {
    pub(super) fn new(registry: &Registry) -> Self {
        let refused = |reason| {
            registry.counter("gateway_refused_total", "Requests refused at the door.", &[("reason", reason)])
        };
        Self {
            ingest: UpstreamCounters::new(registry, "ingest"),
            processor: UpstreamCounters::new(registry, "processor"),
            unauthorized: refused("unauthorized"),
            rate_limited: refused("rate_limited"),
            overloaded: refused("overloaded"),
            too_large: refused("too_large"),
        }
    }
}
