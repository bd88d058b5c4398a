//! Passes a request on to the service that answers it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::counters::UpstreamCounters;
use super::route::{API_INGEST, Route};
use super::{Inner, fits_a_stream, headers};
use crate::pipeline::context::RequestContext;
use crate::pipeline::http::body::{self, BodyError};
use crate::pipeline::http::respond::{self, Answer, X_REQUEST_ID};
use crate::pipeline::upstream::{CallError, Posted, Upstream};

/// The end of an accepted answer on the route whose clients also look for a `message`.
const MESSAGE: &[u8] = b",\"message\":\"Data ingested successfully\"}";

impl Inner {
    pub(super) async fn relay(&self, route: Route, request: Request<Incoming>, client: SocketAddr) -> Answer {
        let mut context = RequestContext::of_headers(request.headers());
        let span = context.begin("gateway", route.pattern());
        let mut answer = match self.relay_admitted(route, request, client, &context).await {
            Ok(answer) => answer,
            Err(error) => {
                match error {
                    BodyError::Busy => self.counters.overloaded.increment(),
                    BodyError::TooLarge => self.counters.too_large.increment(),
                    BodyError::TimedOut | BodyError::Broken => {}
                }
                error.answer()
            }
        };
        drop(span);
        answer.headers_mut().insert(X_REQUEST_ID, context.request_id_header());
        answer
    }

    async fn relay_admitted(
        &self,
        route: Route,
        request: Request<Incoming>,
        client: SocketAddr,
        context: &RequestContext,
    ) -> Result<Answer, BodyError> {
        let mut permit = self.admission.admit(0).ok_or(BodyError::Busy)?;
        let streamable = fits_a_stream(&request);
        let (head, body) = request.into_parts();
        let server = &self.config.server;
        let body = body::read(body, server.max_body_bytes, server.body_timeout(), &mut permit).await?;

        let (upstream, counters, path) = match route {
            Route::Enqueue => (&self.processor, &self.counters.processor, "/enqueue"),
            _ => (&self.ingest, &self.counters.ingest, "/ingest"),
        };
        let answer = if streamable && matches!(upstream.is_plain().await, Ok(false)) {
            self.over_stream(upstream, counters, path, context, body).await
        } else {
            let mut on = head.headers;
            headers::forward(&mut on, client);
            headers::strip(&mut on);
            context.write(&mut on);
            let path = match head.uri.query() {
                None => PathAndQuery::from_static(path),
                // The query was part of a valid URI before.
                Some(query) => format!("{path}?{query}").parse().unwrap_or(PathAndQuery::from_static(path)),
            };
            self.in_plain_http(upstream, counters, head.method, path, on, body).await
        };
        let accepted_api =
            matches!(route, Route::Ingest { under: API_INGEST }) && answer.status() == StatusCode::OK;
        Ok(if accepted_api { with_message(answer).await } else { answer })
    }

    async fn over_stream(
        &self,
        upstream: &Upstream,
        counters: &UpstreamCounters,
        path: &'static str,
        context: &RequestContext,
        body: Bytes,
    ) -> Answer {
        match upstream.post(path, context, body).await {
            Ok(Posted { status, retry_after_s, body }) => {
                counters.record(Some(status));
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let answer = match status {
                    StatusCode::OK => respond::json(status, body),
                    StatusCode::ACCEPTED => respond::empty(status),
                    _ => respond::plain_bytes(status, body),
                };
                match retry_after_s {
                    0 => answer,
                    seconds => respond::retry_after(answer, Duration::from_secs(seconds.into())),
                }
            }
            Err(error) => unavailable(counters, &error),
        }
    }

    async fn in_plain_http(
        &self,
        upstream: &Upstream,
        counters: &UpstreamCounters,
        method: Method,
        path: PathAndQuery,
        headers_on: HeaderMap,
        body: Bytes,
    ) -> Answer {
        match upstream.forward(method, path, headers_on, body).await {
            Ok(answer) => {
                counters.record(Some(answer.status().as_u16()));
                let (mut head, body) = answer.into_parts();
                headers::strip(&mut head.headers);
                Answer::from_parts(head, Full::new(body))
            }
            Err(error) => unavailable(counters, &error),
        }
    }
}

fn unavailable(counters: &UpstreamCounters, error: &CallError) -> Answer {
    counters.record(None);
    tracing::debug!(%error, "no answer from the service behind");
    match error {
        CallError::InvalidUrl => respond::plain(StatusCode::INTERNAL_SERVER_ERROR, "Invalid target URL"),
        CallError::UnusableUrl => {
            respond::plain(StatusCode::INTERNAL_SERVER_ERROR, "Failed to create proxy request")
        }
        _ => {
            let answer = respond::plain(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
            // Advice to come back is given only where nothing was sent: a second try then makes no second
            // message.
            if error.is_unsent() { respond::retry_after(answer, error.retry_after()) } else { answer }
        }
    }
}

/// Adds the message that some clients look for to an accepted answer.
async fn with_message(answer: Answer) -> Answer {
    use http_body_util::BodyExt as _;
    let (mut head, body) = answer.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let Some(object) = body.trim_ascii_end().strip_suffix(b"}") else {
        return Answer::from_parts(head, Full::new(body));
    };
    head.headers.remove(http::header::CONTENT_LENGTH);
    let mut extended = Vec::with_capacity(object.len() + MESSAGE.len());
    extended.extend_from_slice(object);
    extended.extend_from_slice(MESSAGE);
    Answer::from_parts(head, Full::new(extended.into()))
}
