//! Routes that only look.

use std::collections::HashMap;

use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::json as object;

use super::{json, json_with, text};
use crate::cluster::{
    kit::ClusterKit,
    view::{Answer, ClusterBody, KeyLocation, NodesPage, PartitionMap, PartitionStats, Readiness},
};

type Parameters = Query<HashMap<String, String>>;

pub(super) async fn health() -> Response {
    json(&Answer { success: true, message: "healthy".to_owned(), data: None })
}

pub(super) async fn ready(State(kit): State<ClusterKit>) -> Response {
    let readiness = kit.read(|state| Readiness::of(state, kit.node_id()));
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_with(status, readiness)
}

fn cache_fields(version: u64) -> [(header::HeaderName, String); 2] {
    [(header::CACHE_CONTROL, "max-age=30".to_owned()), (header::ETAG, format!("\"{version}\""))]
}

/// The answer to a client that has this version already.
fn unchanged(version: u64, headers: &HeaderMap) -> Option<Response> {
    let [_, (_, tag)] = &cache_fields(version);
    let has_it = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*")
    });
    has_it.then(|| (StatusCode::NOT_MODIFIED, cache_fields(version)).into_response())
}

/// A body that is the same as long as the topology is: clients and proxies may keep it for a while.
fn cached(version: u64, headers: &HeaderMap, body: impl FnOnce() -> Response) -> Response {
    unchanged(version, headers).unwrap_or_else(|| (cache_fields(version), body()).into_response())
}

pub(super) async fn cluster(State(kit): State<ClusterKit>, headers: HeaderMap) -> Response {
    // Most clients ask again and again for what they have: for them no body is made.
    let version = kit.topology().version();
    if let Some(unchanged) = unchanged(version, &headers).filter(|_| version > 0) {
        return unchanged;
    }
    let (version, body) = kit.read(|state| (state.topology_version(), ClusterBody::of(state)));
    match body {
        Some(body) => cached(version, &headers, || json(&body)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "cluster not initialized\n"),
    }
}

pub(super) async fn nodes(State(kit): State<ClusterKit>, Query(asked): Parameters) -> Response {
    let value = |name: &str| asked.get(name).map(String::as_str);
    json(&kit.read(|state| NodesPage::of(state, value("limit"), value("offset"))))
}

pub(super) async fn partitions(State(kit): State<ClusterKit>, headers: HeaderMap) -> Response {
    let topology = kit.snapshot();
    let partitions = PartitionMap::of(topology.assignment()).partitions;
    let count = partitions.len();
    cached(topology.version(), &headers, || json(&object!({ "partitions": partitions, "count": count })))
}

pub(super) async fn partition_stats(State(kit): State<ClusterKit>) -> Response {
    json(&PartitionStats::of(kit.snapshot().assignment()))
}

pub(super) async fn partition_of_key(State(kit): State<ClusterKit>, Query(asked): Parameters) -> Response {
    let Some(key) = asked.get("key") else {
        return text(StatusCode::BAD_REQUEST, "key required\n");
    };
    // From the picture that lookups use: requests for keys never wait for what is being applied.
    match KeyLocation::of(&kit.topology(), key) {
        Some(location) => json(&location),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no partitions available\n"),
    }
}

pub(super) async fn leader(State(kit): State<ClusterKit>) -> Response {
    match kit.leader_info() {
        Ok(leader) => json(&leader),
        Err(error) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
    }
}

pub(super) async fn consensus_stats(State(kit): State<ClusterKit>) -> Response {
    json(&kit.consensus_stats())
}

pub(super) async fn metrics(state: State<ClusterKit>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") || accept.contains("application/openmetrics-text") {
        return prometheus(state).await;
    }
    json(&state.0.metrics())
}

pub(super) async fn prometheus(State(kit): State<ClusterKit>) -> Response {
    use std::fmt::Write;
    let (figures, hooks) = (kit.metrics(), kit.hook_statistics());
    let mut body = String::new();
    for (name, kind, value) in [
        ("cluster_nodes", "gauge", figures.node_count as u64),
        ("cluster_partitions", "gauge", figures.partition_count as u64),
        ("cluster_http_requests_total", "counter", figures.request_count),
        ("cluster_http_errors_total", "counter", figures.error_count),
        ("cluster_is_leader", "gauge", u64::from(figures.is_leader)),
        ("cluster_uptime_seconds", "gauge", figures.uptime_seconds),
        ("cluster_topology_version", "gauge", kit.topology().version()),
        ("cluster_hooks_delivered_total", "counter", hooks.delivered),
        ("cluster_hooks_missed_total", "counter", hooks.missed),
        ("cluster_hooks_panicked_total", "counter", hooks.panicked),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(body, "# TYPE {name} {kind}\n{name} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
}

pub(super) async fn health_detailed(State(kit): State<ClusterKit>) -> Response {
    json(&kit.health_check())
}

pub(super) async fn health_nodes(State(kit): State<ClusterKit>) -> Response {
    json(&kit.watched())
}

pub(super) async fn plan(State(kit): State<ClusterKit>) -> Response {
    match kit.plan_rebalance() {
        Ok(plan) => json(&plan),
        Err(refusal) => text(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()),
    }
}

pub(super) async fn custom_data(State(kit): State<ClusterKit>, Path(key): Path<String>) -> Response {
    match kit.custom_data(&key) {
        Ok(value) => ([(header::CONTENT_TYPE, "application/octet-stream")], value).into_response(),
        Err(error) => text(StatusCode::NOT_FOUND, error.to_string()),
    }
}
