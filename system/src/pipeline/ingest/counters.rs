//! What the ingest service counts, under the names that dashboards and scripts know.

use std::time::Duration;

use crate::telemetry::metrics::{Counter, Histogram, Registry};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    BadRequest,
    MethodNotAllowed,
    ServiceUnavailable,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Success, "success"),
    (Outcome::BadRequest, "bad_request"),
    (Outcome::MethodNotAllowed, "method_not_allowed"),
    (Outcome::ServiceUnavailable, "service_unavailable"),
];

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) received: Counter,
    sent: Counter,
    failed: Counter,
    pub(super) overloaded: Counter,
    /// In the order of [`OUTCOMES`].
    by_outcome: Vec<(Counter, Histogram)>,
}

impl Counters {
    pub(super) fn new(registry: &Registry) -> Self {
        let message = |status| {
            registry.counter("ingest_messages_processed_total", "Messages by fate.", &[("status", status)])
        };
        let by_outcome = OUTCOMES.map(|(_, status)| {
            let labels = [("status", status)];
            (
                registry.counter("ingest_requests_total", "Ingest requests by outcome.", &labels),
                registry.histogram("ingest_request_duration_seconds", "Time to the answer.", &labels),
            )
        });
        Self {
            received: message("received"),
            sent: message("sent"),
            failed: message("failed"),
            overloaded: registry.counter(
                "ingest_overloaded_total",
                "Requests refused because too many were in work.",
                &[],
            ),
            by_outcome: by_outcome.into(),
        }
    }

    /// Counts one finished request.
    pub(super) fn record(&self, outcome: Outcome, took: Duration) {
        let index = OUTCOMES.iter().position(|(known, _)| *known == outcome).unwrap_or_default();
        let (counter, histogram) = &self.by_outcome[index];
        counter.increment();
        histogram.observe(took);
    }

    /// The fate of a message that was received.
    pub(super) fn fate(&self, sent: bool) {
        if sent { self.sent.increment() } else { self.failed.increment() }
    }

    pub(super) fn stats(&self) -> String {
        let (received, sent, failed) = (self.received.get(), self.sent.get(), self.failed.get());
        format!("{{\"TotalReceived\":{received},\"TotalSent\":{sent},\"TotalFailed\":{failed}}}")
    }
}
