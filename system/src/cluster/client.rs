//! Requests from one node to another: small JSON, a deadline each, answers bounded.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::ClientConfig;
use serde::{Serialize, de::DeserializeOwned};

use connector::Connector;

mod connector;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Tells which disk a node runs on, so that a node that plays another's part is noticed.
pub(super) const RAFT_ID_HEADER: &str = "x-cluster-raft-id";

/// There was no answer, or none that could be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{address} did not answer within {waited:?}")]
    Timeout { address: String, waited: Duration },
    #[error("{address} could not be asked: {reason}")]
    Broken { address: String, reason: String, sent: bool },
    #[error("{address} answered {status}: {text}")]
    Status { address: String, status: StatusCode, text: String },
}

impl ClientError {
    /// Whether the request has certainly had no effect.
    pub(super) fn harmless(&self) -> bool {
        match self {
            Self::Timeout { .. } => false,
            Self::Broken { sent, .. } => !sent,
            Self::Status { status, .. } => {
                status.is_client_error() || *status == StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) raft_id: Option<u64>,
    pub(super) body: Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct PeerClient {
    client: Client<Connector, Full<Bytes>>,
    scheme: &'static str,
    secret: Option<String>,
}

impl PeerClient {
    pub(super) fn new(secret: Option<String>, tls: Option<Arc<ClientConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let client = Client::builder(TokioExecutor::new()).build(Connector::new(tls));
        Self { client, scheme, secret }
    }

    async fn send(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let broken = |reason: String, sent| ClientError::Broken { address: address.to_owned(), reason, sent };
        let mut request = Request::builder().method(method).uri(format!("{}://{address}{path}", self.scheme));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(secret) = &self.secret {
            request = request.header(header::AUTHORIZATION, format!("Bearer {secret}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| broken(error.to_string(), false))?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| broken(error.to_string(), !error.is_connect()))?;
            let (parts, body) = response.into_parts();
            let read = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = read.map_err(|error| broken(error.to_string(), true))?.to_bytes();
            let raft_id = parts.headers.get(RAFT_ID_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
            Ok(Answer { status: parts.status, raft_id, body })
        };
        let timeout = || ClientError::Timeout { address: address.to_owned(), waited: deadline };
        tokio::time::timeout(deadline, exchange).await.unwrap_or_else(|_| Err(timeout()))
    }

    pub(super) async fn get(
        &self,
        address: &str,
        path: &str,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        self.send(Method::GET, address, path, Bytes::new(), deadline).await
    }

    pub(super) async fn post(
        &self,
        address: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let broken = |reason| ClientError::Broken { address: address.to_owned(), reason, sent: false };
        let body = serde_json::to_vec(body).map_err(|error| broken(error.to_string()))?;
        self.send(Method::POST, address, path, body.into(), deadline).await
    }

    /// Posts, and reads the answer of a success.
    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        deadline: Duration,
    ) -> Result<A, ClientError> {
        let answer = self.post(address, path, body, deadline).await?;
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        if !answer.status.is_success() {
            return Err(ClientError::Status {
                address: address.to_owned(),
                status: answer.status,
                text: text(),
            });
        }
        serde_json::from_slice(&answer.body).map_err(|error| ClientError::Broken {
            address: address.to_owned(),
            reason: error.to_string(),
            sent: true,
        })
    }
}
