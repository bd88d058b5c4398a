//! What travels with a request from service to service: its id and its place in a trace.
//!
//! A request id that a client sends is kept if it is short printable ASCII, else a new one is made. When traces
//! are exported, each service adds one span per request; otherwise `traceparent` is passed on as it came.

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::http::respond::X_REQUEST_ID;
use crate::telemetry::logging::TRACE_TARGET;
use crate::telemetry::trace_context::{TRACEPARENT, TraceContext};

/// Longest request id that is kept.
const MAX_REQUEST_ID: usize = 128;

/// Id and trace of one request.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) request_id: Bytes,
    pub(crate) trace: Option<TraceContext>,
}

impl RequestContext {
    /// Reads both from the headers of a request.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Self {
        let request_id = headers
            .get(X_REQUEST_ID)
            .and_then(|value| kept(value.as_bytes()))
            .map_or_else(new_request_id, Bytes::copy_from_slice);
        Self {
            request_id,
            trace: headers.get(TRACEPARENT).and_then(|value| TraceContext::parse(value.as_bytes())),
        }
    }

    /// From parts that another service of ours sent.
    pub(crate) fn of_parts(request_id: Bytes, trace: Option<TraceContext>) -> Self {
        let request_id = if kept(&request_id).is_some() { request_id } else { new_request_id() };
        Self { request_id, trace }
    }

    /// Writes both into the headers of the next request.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.request_id_header());
        if let Some(trace) = self.trace
            && let Ok(value) = HeaderValue::from_str(&trace.to_string())
        {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// The id as a header; it was checked when it was read.
    pub(crate) fn request_id_header(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.request_id.clone()).unwrap_or(HeaderValue::from_static("invalid"))
    }

    /// Begins this service's own span, if traces are exported; the context then names it as the parent of
    /// whatever comes next. The span ends when the returned value is dropped.
    pub(crate) fn begin(&mut self, service: &'static str, operation: &'static str) -> tracing::Span {
        if !tracing::enabled!(target: TRACE_TARGET, tracing::Level::INFO) {
            return tracing::Span::none();
        }
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "request",
            otel.name = operation,
            otel.kind = "server",
            service,
            request_id = %String::from_utf8_lossy(&self.request_id),
        );
        if let Some(remote) = self.trace {
            let flags = if remote.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let remote = SpanContext::new(
                TraceId::from(remote.trace_id),
                SpanId::from(remote.span_id),
                flags,
                true,
                TraceState::default(),
            );
            // Fails only where no exporter is installed, and then nothing is recorded either.
            let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
        }
        let own = span.context().span().span_context().clone();
        if own.is_valid() {
            self.trace = Some(TraceContext {
                trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
                span_id: u64::from_be_bytes(own.span_id().to_bytes()),
                sampled: own.is_sampled(),
            });
        }
        span
    }
}

fn kept(id: &[u8]) -> Option<&[u8]> {
    let printable = |byte: &u8| byte.is_ascii_graphic();
    (!id.is_empty() && id.len() <= MAX_REQUEST_ID && id.iter().all(printable)).then_some(id)
}

fn new_request_id() -> Bytes {
    let mut text = [0; uuid::fmt::Simple::LENGTH];
    Bytes::copy_from_slice(uuid::Uuid::new_v4().simple().encode_lower(&mut text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_request_ids_are_kept_and_bad_ones_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(RequestContext::of_headers(&headers).request_id, "abc-1");
        for bad in [String::new(), "has blank".into(), "x".repeat(129)] {
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(&bad).unwrap());
            assert_eq!(RequestContext::of_headers(&headers).request_id.len(), 32, "{bad}");
        }
    }
}
