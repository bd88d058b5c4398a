//! Answers in the form that existing clients know.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;

/// What every handler returns: bodies here are small and whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Names one request in logs and answers.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A message as plain text with a line end.
pub(crate) fn plain(status: StatusCode, message: &'static str) -> Answer {
    let mut body = Vec::with_capacity(message.len() + 1);
    body.extend_from_slice(message.as_bytes());
    body.push(b'\n');
    plain_bytes(status, body.into())
}

/// A plain-text body that already ends as it should.
pub(crate) fn plain_bytes(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// The same answer with advice on when to come back: whole seconds, at least one.
pub(crate) fn retry_after(mut answer: Answer, wait: Duration) -> Answer {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        answer.headers_mut().insert(RETRY_AFTER, value);
    }
    answer
}

pub(crate) fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found")
}

pub(crate) fn method_not_allowed() -> Answer {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

pub(crate) fn healthy() -> Answer {
    json(StatusCode::OK, Bytes::from_static(b"{\"healthy\":true}"))
}

/// 200 `{"ready":true}` or 503 with the reason.
pub(crate) fn readiness(state: Result<(), String>) -> Answer {
    match state {
        Ok(()) => json(StatusCode::OK, Bytes::from_static(b"{\"ready\":true}")),
        Err(reason) => {
            let body = serde_json::json!({ "ready": false, "reason": reason });
            json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
        }
    }
}

/// Prometheus text.
pub(crate) fn metrics(text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
