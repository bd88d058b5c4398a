//! Counts requests by method, route and status. Routes are patterns, never raw paths, so the number of series
//! is bounded by the program and not by its clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::RwLock;

use crate::telemetry::metrics::{Counter, Histogram, Registry};

/// The route of a path that no service knows.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Method, route and status.
type Key = (&'static str, &'static str, u16);

/// One counter and one histogram per method, route and status, under two names.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    registry: Arc<Registry>,
    total: &'static str,
    duration: &'static str,
    handles: RwLock<HashMap<Key, (Counter, Histogram)>>,
}

impl RequestMetrics {
    pub(crate) fn new(registry: Arc<Registry>, total: &'static str, duration: &'static str) -> Self {
        Self { registry, total, duration, handles: RwLock::default() }
    }

    pub(crate) fn record(&self, method: &Method, route: &'static str, status: StatusCode, took: Duration) {
        let key = (method_label(method), route, status.as_u16());
        if let Some((counter, histogram)) = self.handles.read().get(&key) {
            counter.increment();
            histogram.observe(took);
            return;
        }
        let labels = [("method", key.0), ("endpoint", route), ("status", status.as_str())];
        let counter = self.registry.counter(self.total, "Requests by method, route and status.", &labels);
        let histogram = self.registry.histogram(self.duration, "Time from head to answer.", &labels);
        counter.increment();
        histogram.observe(took);
        self.handles.write().insert(key, (counter, histogram));
    }
}

/// Clients may invent methods; these are the ones that get a series of their own.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}
