//! etcd: this member serves linearizable reads, so it sees a leader, and knows itself by the name it was
//! given.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{NotReady, Ready, Target};

/// Between two attempts.
const INTERVAL: Duration = Duration::from_millis(50);
/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 256 * 1024;

pub(crate) async fn until_ready(target: &Target<'_>, limit: Duration) -> Result<Ready, NotReady> {
    repeat(limit, async || attempt(target).await).await
}

/// Attempts until one succeeds or `limit` is over.
pub(super) async fn repeat(
    limit: Duration,
    attempt: impl AsyncFn() -> Result<Ready, String>,
) -> Result<Ready, NotReady> {
    let deadline = Instant::now() + limit;
    let mut last = "no answer".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotReady::Yet(last));
        }
        match timeout(left.min(ATTEMPT), attempt()).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(reason)) => last = reason,
            // An attempt that the deadline cut short has less to say than the one before it.
            Err(_) if left >= ATTEMPT => last = format!("no answer within {ATTEMPT:?}"),
            Err(_) => {}
        }
        sleep(INTERVAL).await;
    }
}

async fn attempt(target: &Target<'_>) -> Result<Ready, String> {
    let endpoint = target.address.split(',').next().unwrap_or_default().trim();
    let host = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let health = ask(host, "GET", "/health").await?;
    if health["health"] != "true" {
        return Err(format!("unhealthy: {health}"));
    }
    if let Some(identity) = target.identity {
        let list = ask(host, "POST", "/v3/cluster/member/list").await?;
        let own = &list["header"]["member_id"];
        let members = list["members"].as_array().into_iter().flatten();
        let name = members.filter(|member| member["ID"] == *own).find_map(|member| member["name"].as_str());
        if name != Some(identity) {
            return Err(format!("another member answers, {name:?}"));
        }
    }
    let version = ask(host, "GET", "/version").await?;
    Ok(Ready { version: version["etcdserver"].as_str().map(str::to_owned) })
}

/// One question over HTTP/1.0, whose answer ends with the connection.
pub(super) async fn ask(host: &str, method: &str, path: &str) -> Result<serde_json::Value, String> {
    let failed = |error: std::io::Error| format!("{path}: {error}");
    let mut stream = TcpStream::connect(host).await.map_err(failed)?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (_, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: not an HTTP answer"))?;
    serde_json::from_str(body.trim()).map_err(|error| format!("{path}: {error}: {body:.200}"))
}
