//! Routes that only look.

use std::{collections::HashMap, sync::atomic::Ordering};

use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json as object};

use super::{json, json_with, text};
use crate::{
    cluster::{
        kit::ClusterKit,
        view::{ClusterBody, KeyLocation, NodesPage, PartitionMap, PartitionStats, Readiness},
    },
    raft::node::Role,
};

type Parameters = Query<HashMap<String, String>>;

/// How times that never were are written.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

pub(super) async fn health() -> Response {
    json(&object!({ "success": true, "message": "healthy" }))
}

pub(super) async fn ready(State(kit): State<ClusterKit>) -> Response {
    let readiness = kit.read(|state| Readiness::of(state, kit.node_id()));
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_with(status, readiness)
}

/// A body that is the same as long as the topology is: clients and proxies may keep it for a while.
fn cached(version: u64, headers: &HeaderMap, body: impl FnOnce() -> Response) -> Response {
    let tag = format!("\"{version}\"");
    let has_it = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*")
    });
    let fields = [(header::CACHE_CONTROL, "max-age=30".to_owned()), (header::ETAG, tag)];
    if has_it { (StatusCode::NOT_MODIFIED, fields).into_response() } else { (fields, body()).into_response() }
}

pub(super) async fn cluster(State(kit): State<ClusterKit>, headers: HeaderMap) -> Response {
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
    match kit.read(|state| KeyLocation::of(state, key)) {
        Some(location) => json(&location),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no partitions available\n"),
    }
}

pub(super) async fn leader(State(kit): State<ClusterKit>) -> Response {
    let Some(leader) = kit.leader() else {
        return text(StatusCode::NOT_FOUND, "no leader elected\n");
    };
    let term = kit.0.raft.status().term;
    let elected_at = kit.read(|state| {
        let told = state.leader().filter(|told| told.term == term && told.leader == leader.id);
        told.map_or_else(|| ZERO_TIME.to_owned(), |told| told.elected_at.to_string())
    });
    json(&object!({
        "leader_id": leader.id,
        "leader_name": leader.name,
        "leader_ip": leader.ip,
        "term": term,
        "elected_at": elected_at,
    }))
}

fn raft_state(role: Role) -> &'static str {
    match role {
        Role::Learner | Role::Follower => "Follower",
        Role::Candidate => "Candidate",
        Role::Leader => "Leader",
        Role::Stopped => "Shutdown",
    }
}

pub(super) async fn consensus_stats(State(kit): State<ClusterKit>) -> Response {
    let status = kit.0.raft.status();
    let leader = kit.leader().map_or_else(String::new, |leader| leader.id.to_string());
    json(&object!({
        "state": raft_state(status.role),
        "term": status.term,
        "last_log_index": status.last_log_index.unwrap_or(0),
        // A leader writes an entry when its term begins, so the last entry of whoever follows is of it.
        "last_log_term": if status.last_log_index.is_some() { status.term } else { 0 },
        "commit_index": status.commit_index.unwrap_or(0),
        "applied_index": status.last_applied.unwrap_or(0),
        "num_peers": status.members.len().saturating_sub(1),
        "leader": leader,
    }))
}

fn figures(kit: &ClusterKit) -> Value {
    let status = kit.0.raft.status();
    let (nodes, partitions, clock) = kit.read(|state| {
        (state.members().len(), state.assignment().map_or(0, |assignment| assignment.len()), state.clock())
    });
    let last_sync = if clock == Timestamp::default() { ZERO_TIME.to_owned() } else { clock.to_string() };
    object!({
        "node_count": nodes,
        "partition_count": partitions,
        "request_count": kit.0.requests.load(Ordering::Relaxed),
        "error_count": kit.0.errors.load(Ordering::Relaxed),
        "last_sync": last_sync,
        "is_leader": status.role == Role::Leader,
        "raft_state": raft_state(status.role),
        "uptime_seconds": kit.0.started.elapsed().as_secs(),
    })
}

pub(super) async fn metrics(state: State<ClusterKit>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") || accept.contains("application/openmetrics-text") {
        return prometheus(state).await;
    }
    json(&figures(&state.0))
}

pub(super) async fn prometheus(State(kit): State<ClusterKit>) -> Response {
    use std::fmt::Write;
    let figures = figures(&kit);
    let hooks = kit.hook_statistics();
    let number = |name: &str| figures[name].as_u64().unwrap_or(0);
    let mut body = String::new();
    for (name, kind, value) in [
        ("cluster_nodes", "gauge", number("node_count")),
        ("cluster_partitions", "gauge", number("partition_count")),
        ("cluster_http_requests_total", "counter", number("request_count")),
        ("cluster_http_errors_total", "counter", number("error_count")),
        ("cluster_is_leader", "gauge", u64::from(figures["is_leader"] == true)),
        ("cluster_uptime_seconds", "gauge", number("uptime_seconds")),
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

/// A duration as Go writes it: `1h2m3.5s`.
fn go_duration(duration: std::time::Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let rest = format!("{seconds}.{:03}", duration.subsec_millis());
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

pub(super) async fn health_detailed(State(kit): State<ClusterKit>) -> Response {
    let figures = figures(&kit);
    let healthy = kit.leader().is_some() && kit.read(|state| state.members().contains_key(kit.node_id()));
    json(&object!({
        "healthy": healthy,
        "node_id": kit.node_id(),
        "node_name": kit.node().name,
        "is_leader": figures["is_leader"],
        "node_count": figures["node_count"],
        "partition_count": figures["partition_count"],
        "raft_state": figures["raft_state"],
        "last_sync": figures["last_sync"],
        "uptime": go_duration(kit.0.started.elapsed()),
    }))
}

pub(super) async fn health_nodes(State(kit): State<ClusterKit>) -> Response {
    let (up, now) = (kit.0.started.elapsed(), Timestamp::now());
    let watch = kit.0.watch.lock();
    let nodes: Vec<_> = watch
        .seen()
        .map(|(id, seen)| {
            let ago =
                seen.answered_at.and_then(|at| jiff::SignedDuration::try_from(up.saturating_sub(at)).ok());
            let last = ago.and_then(|ago| now.checked_sub(ago).ok());
            object!({
                "node_id": id,
                "failures": seen.failures,
                "last_seen": last.map_or_else(|| ZERO_TIME.to_owned(), |last| last.to_string()),
                "healthy": seen.failures == 0,
            })
        })
        .collect();
    json(&nodes)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::go_duration;

    #[test]
    fn durations_are_written_as_in_go() {
        for (millis, text) in [(500, "0.5s"), (62_500, "1m2.5s"), (3_600_000, "1h0m0s"), (10_000, "10s")] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
