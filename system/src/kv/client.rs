//! A client of the HTTP API that finds the leader by itself.
//!
//! It asks each seed who leads, goes there, and starts over on redirects, elections and broken connections
//! until its deadline. Every write carries an id of its own, so that repeating one whose answer was lost
//! applies it once.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// A plain HTTP client with a deadline per request.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request cannot be made.
    #[error("bad request: {0}")]
    Request(#[from] http::Error),
    /// The connection could not be made or broke.
    #[error("connection failed: {0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// A client that keeps connections open.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(TRY_TIMEOUT));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let failed = |error: &dyn std::fmt::Display| HttpError::Connection(error.to_string());
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| failed(&error))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
            Ok(HttpAnswer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }

    /// GET.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get(&self, url: &str) -> Result<HttpAnswer, HttpError> {
        self.send(Method::GET, url, &[], Bytes::new(), TRY_TIMEOUT).await
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum KvClientError {
    /// No leader was reached before the deadline.
    #[error("no leader is reachable: {0}")]
    NoLeader(String),
    /// The store refused.
    #[error("the store answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
}

/// A client of a cluster.
#[derive(Debug, Clone)]
pub struct KvClient {
    http: HttpClient,
    seeds: Vec<String>,
    timeout: Duration,
}

fn encode_key(key: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(key.len());
    for byte in key {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl KvClient {
    /// A client that knows some nodes and gives up after `timeout`.
    #[must_use]
    pub fn new(seeds: &[String], timeout: Duration) -> Self {
        let seeds = seeds.iter().map(|seed| seed.trim_end_matches('/').to_owned()).collect();
        Self { http: HttpClient::new(), seeds, timeout }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`KvClientError`].
    pub async fn put(&self, key: &[u8], value: Bytes) -> Result<HttpAnswer, KvClientError> {
        let answer = self.write(Method::PUT, key, value).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(&answer)) }
    }

    /// Reads a key; nothing when there is none.
    ///
    /// # Errors
    /// See [`KvClientError`].
    pub async fn get(&self, key: &[u8], serializable: bool) -> Result<Option<HttpAnswer>, KvClientError> {
        let query = if serializable { "?consistency=serializable" } else { "" };
        let path = format!("/kv/{}{query}", encode_key(key));
        let answer = self.anywhere(Method::GET, &path, &[], &Bytes::new(), serializable).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(refused(&answer)),
        }
    }

    /// Deletes a key; answers how many there were.
    ///
    /// # Errors
    /// See [`KvClientError`].
    pub async fn delete(&self, key: &[u8]) -> Result<u64, KvClientError> {
        let answer = self.write(Method::DELETE, key, Bytes::new()).await?;
        if !answer.status.is_success() && answer.status != StatusCode::NOT_FOUND {
            return Err(refused(&answer));
        }
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(body["deleted"].as_u64().unwrap_or(0))
    }

    async fn write(&self, method: Method, key: &[u8], body: Bytes) -> Result<HttpAnswer, KvClientError> {
        let id = uuid::Uuid::new_v4().to_string();
        let path = format!("/kv/{}", encode_key(key));
        self.anywhere(method, &path, &[("idempotency-key", &id)], &body, false).await
    }

    async fn leader(&self, seed: &str) -> Option<String> {
        let answer = self.http.get(&format!("{seed}/raft/leader")).await.ok()?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(body["url"].as_str()?.to_owned())
    }

    /// Tries the leader that each seed names, then the seed itself, until one answers for good.
    async fn anywhere(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Bytes,
        any_node: bool,
    ) -> Result<HttpAnswer, KvClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut reason = String::from("no seed was given");
        loop {
            for seed in &self.seeds {
                let leader = if any_node { None } else { self.leader(seed).await };
                for url in leader.iter().chain([seed]) {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(KvClientError::NoLeader(reason));
                    }
                    let target = format!("{url}{path}");
                    let sent =
                        self.http.send(method.clone(), &target, headers, body.clone(), left.min(TRY_TIMEOUT));
                    match sent.await {
                        Ok(answer) if final_answer(&answer) => return Ok(answer),
                        Ok(answer) => reason = format!("{url} answered {}", answer.status),
                        Err(error) => reason = format!("{url}: {error}"),
                    }
                }
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(KvClientError::NoLeader(reason));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether trying again could not change it.
fn final_answer(answer: &HttpAnswer) -> bool {
    !matches!(
        answer.status,
        StatusCode::TEMPORARY_REDIRECT
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn refused(answer: &HttpAnswer) -> KvClientError {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body["message"].as_str().unwrap_or("no reason given").to_owned();
    KvClientError::Refused { status: answer.status, message }
}

/// Where a redirect points.
#[must_use]
pub fn location(answer: &HttpAnswer) -> Option<&str> {
    answer.headers.get(header::LOCATION)?.to_str().ok()
}
