//! Our own key-value store: this member knows a leader, and itself by the name it was given.

use std::time::Duration;

use super::etcd::{ask, repeat};
use super::{NotReady, Ready, Target};

pub(crate) async fn until_ready(target: &Target<'_>, limit: Duration) -> Result<Ready, NotReady> {
    repeat(limit, async || attempt(target).await).await
}

async fn attempt(target: &Target<'_>) -> Result<Ready, String> {
    let endpoint = target.address.split(',').next().unwrap_or_default().trim();
    let host = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let state = ask(host, "GET", "/raft/state").await?;
    let name = state["id"].as_str();
    if target.identity.is_some() && name != target.identity {
        return Err(format!("another member answers, {name:?}"));
    }
    if state["leader"].is_null() {
        return Err("it knows no leader".to_owned());
    }
    // A node states no version; ours are of one build.
    Ok(Ready { version: Some(env!("CARGO_PKG_VERSION").to_owned()) })
}
