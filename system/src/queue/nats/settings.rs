//! What the server itself says of its version, limits and durability.
//!
//! The client protocol tells version, limits and the stream's settings. Whether the server syncs before it
//! acknowledges is told by its monitoring port only (`/jsz?config=1`), so that part needs `monitor_url`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::Context;
use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::NatsConfig;
use super::config::setting;
use super::connect::{chain, failed};
use crate::queue::{Durability, QueueError};

/// The monitoring page measures a few kilobytes.
const MAX_PAGE_BYTES: u64 = 1 << 20;

/// Refuses a durability that the server does not keep.
pub(super) async fn check_durability(config: &NatsConfig) -> Result<(), QueueError> {
    if config.durability != Durability::PowerLoss {
        return Ok(());
    }
    let Some(url) = &config.monitor_url else { return Ok(()) };
    let page = jetstream_page(url, config.request_timeout()).await?;
    if page["config"]["sync_always"] == Value::Bool(true) {
        return Ok(());
    }
    let interval = page["config"]["sync_interval"].as_u64().map(Duration::from_nanos);
    Err(setting(
        "durability",
        &format!(
            "power-loss needs `sync_interval: always` in the server's jetstream block; the server at {url} \
             acknowledges first and syncs every {interval:?}"
        ),
    ))
}

pub(super) async fn effective(
    js: &Context,
    config: &NatsConfig,
) -> Result<BTreeMap<String, String>, QueueError> {
    let client = js.client();
    let server = client.server_info();
    let mut settings = BTreeMap::from([
        ("version".to_owned(), server.version),
        ("server_name".to_owned(), server.server_name),
        ("max_payload_bytes".to_owned(), server.max_payload.to_string()),
        ("tls_required".to_owned(), server.tls_required.to_string()),
        ("auth_required".to_owned(), server.auth_required.to_string()),
    ]);
    settings.extend(server.cluster.map(|name| ("cluster".to_owned(), name)));
    let answer = client
        .request(format!("$JS.API.STREAM.INFO.{}", config.stream), Bytes::new())
        .await
        .map_err(|error| failed(&format!("asking for stream `{}`: {}", config.stream, chain(&error))))?;
    let info: Value = serde_json::from_slice(&answer.payload)
        .map_err(|error| failed(&format!("stream `{}` gave no valid answer: {error}", config.stream)))?;
    if let Some(description) = info["error"]["description"].as_str() {
        return Err(failed(&format!("stream `{}`: {description}", config.stream)));
    }
    quote("stream", &info["config"], &mut settings);
    if let Some(url) = &config.monitor_url {
        let page = jetstream_page(url, config.request_timeout()).await?;
        quote("jetstream", &page["config"], &mut settings);
    }
    Ok(settings)
}

/// Each field of a JSON object, under its name as the server wrote it.
fn quote(prefix: &str, object: &Value, into: &mut BTreeMap<String, String>) {
    for (name, value) in object.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        into.insert(format!("{prefix}.{name}"), text);
    }
}

async fn jetstream_page(url: &str, limit: Duration) -> Result<Value, QueueError> {
    let page = tokio::time::timeout(limit, get(url, "/jsz?config=1"))
        .await
        .map_err(|_| setting("monitor_url", &format!("{url} did not answer within {limit:?}")))??;
    serde_json::from_str(&page)
        .map_err(|error| setting("monitor_url", &format!("{url} gave no monitoring page: {error}")))
}

async fn get(url: &str, path: &str) -> Result<String, QueueError> {
    let wrong = |reason: String| setting("monitor_url", &format!("{url}: {reason}"));
    let authority = url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|rest| rest.contains(':') && !rest.contains('/'))
        .ok_or_else(|| wrong("must look like http://host:port".to_owned()))?;
    let io = |error: std::io::Error| wrong(error.to_string());
    let mut stream = TcpStream::connect(authority).await.map_err(io)?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = String::new();
    stream.take(MAX_PAGE_BYTES).read_to_string(&mut answer).await.map_err(io)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(wrong(format!("answered {:?}", answer.lines().next().unwrap_or_default()))),
    }
}
