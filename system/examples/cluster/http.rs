//! Small requests to other nodes, two seconds each.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Status and body; status 0 when there was no answer.
    pub(crate) async fn ask(&self, method: Method, url: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
        let request = Request::builder().method(method).uri(url);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body.into()));
        let Ok(request) = request else { return (0, Bytes::new()) };
        let exchange = async {
            let answer = self.0.request(request).await.ok()?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
            Some((status, body.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten().unwrap_or_default()
    }

    pub(crate) async fn get(&self, url: &str) -> (u16, Bytes) {
        self.ask(Method::GET, url, Bytes::new()).await
    }

    /// Whether it was answered with 200.
    pub(crate) async fn post(&self, url: &str, body: &serde_json::Value) -> bool {
        self.ask(Method::POST, url, body.to_string()).await.0 == 200
    }
}

/// A key as part of a query.
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where a node's store is asked: its service `kv`, on this host if only a port is given.
pub(crate) fn kv_url(address: &str) -> String {
    if address.starts_with(':') { format!("http://localhost{address}") } else { format!("http://{address}") }
}
