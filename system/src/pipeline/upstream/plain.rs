//! Plain HTTP/1.1 to the next service over pooled connections.
//!
//! Bounds: idle connections per host, their age, the size of an answer, and each call's deadline.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::{CallError, PlainRequest};
use crate::pipeline::config::UpstreamConfig;

/// Largest answer that is taken.
const MAX_ANSWER_BYTES: usize = 8 << 20;

#[derive(Clone, Debug)]
pub(super) struct PlainClient(Client<HttpConnector, Full<Bytes>>);

impl PlainClient {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout()));
        Self(
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                // Shorter than the 10 s after which a service closes an idle connection.
                .pool_idle_timeout(Duration::from_secs(5))
                .pool_max_idle_per_host(100)
                .build(connector),
        )
    }

    pub(super) async fn send(
        &self,
        request: PlainRequest,
        deadline: Instant,
    ) -> Result<Response<Bytes>, CallError> {
        let call = async {
            let answer = self.0.request(request).await.map_err(|error| {
                let reason = describe(&error);
                if error.is_connect() { CallError::Unreachable(reason) } else { CallError::Lost(reason) }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| CallError::Lost(error.to_string()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout_at(deadline, call).await.unwrap_or(Err(CallError::TimedOut))
    }
}

/// An error with its causes, which is where hyper puts what matters.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
