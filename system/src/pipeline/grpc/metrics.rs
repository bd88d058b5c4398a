//! Counts calls by method and code.

use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use crate::telemetry::metrics::Registry;

#[derive(Debug)]
pub(super) struct CallMetrics(Arc<Registry>);

impl CallMetrics {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self(registry)
    }

    pub(super) fn record(&self, method: &'static str, code: Code, took: Duration) {
        // Seventeen codes and two methods: the number of series is bounded by the protocol.
        let code = format!("{code:?}");
        let labels = [("method", method), ("code", code.as_str())];
        self.0.counter("grpc_requests_total", "Calls by method and code.", &labels).increment();
        self.0.histogram("grpc_request_duration_seconds", "Time to the answer.", &labels).observe(took);
    }
}
