//! Routes that change something, or are for members only.

use std::collections::HashMap;

use axum::{
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json as object;

use super::{BODY_BYTES_MAX, json, json_with, text};
use crate::cluster::{
    command::{Operation, Outcome, Refusal, SetPartitions},
    error::ChangeError,
    health::Report,
    kit::{ClusterKit, JoinAnswer, JoinRequest},
    name::NodeId,
    node::Node,
    view::Answer,
};

fn answer(message: &str, data: Option<serde_json::Value>) -> Response {
    json(&Answer { success: true, message: message.to_owned(), data })
}

/// Sends a client to the leader, with what it needs in the body too.
fn elsewhere(kit: &ClusterKit, leader: Option<&Node>, path: &str, what: &str) -> Response {
    let Some(leader) = leader.filter(|leader| leader.id != *kit.node_id()) else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "no leader available");
    };
    let address = leader.advertise_addr.as_ref().unwrap_or(&leader.ip);
    let body = object!({
        "error": "not the leader",
        "leader_id": leader.id,
        "leader_ip": address,
        "message": format!("Please retry {what} request to leader at {address}"),
    });
    let location =
        [(header::LOCATION, format!("{}://{}{path}", kit.0.settings.scheme(), leader.http_addr()))];
    (location, json_with(StatusCode::TEMPORARY_REDIRECT, body)).into_response()
}

pub(super) async fn join(State(kit): State<ClusterKit>, request: Request) -> Response {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n");
    };
    let request: JoinRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let node_id = request.node.id.clone();
    match kit.take_join(request).await {
        JoinAnswer::Joined { cluster_id, node_count } => {
            let data = object!({ "node_id": node_id, "cluster_id": cluster_id, "node_count": node_count });
            answer("Node joined successfully", Some(data))
        }
        JoinAnswer::Elsewhere(leader) => elsewhere(&kit, leader.as_ref(), "/join", "join"),
        JoinAnswer::Raft(reason) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to add to raft: {reason}"))
        }
        JoinAnswer::Proposal(error) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to propose: {error}"))
        }
        JoinAnswer::Invalid(reason) => text(StatusCode::BAD_REQUEST, reason),
    }
}

#[derive(Debug, Deserialize)]
struct RemoveRequest {
    node_id: NodeId,
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, error.to_string())))
}

fn failure(error: &ChangeError) -> Response {
    let status = match error {
        ChangeError::Refused(Refusal::UnknownNode(_)) => StatusCode::NOT_FOUND,
        ChangeError::Refused(Refusal::ValueTooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
        ChangeError::Refused(Refusal::Invalid(_)) | ChangeError::Rejected(_) => StatusCode::BAD_REQUEST,
        ChangeError::Refused(Refusal::CustomDataFull { .. }) => StatusCode::INSUFFICIENT_STORAGE,
        ChangeError::Refused(_) | ChangeError::Majority(_) => StatusCode::CONFLICT,
        ChangeError::NoLeader | ChangeError::OnlyLeader(_) | ChangeError::Stopped | ChangeError::Busy => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ChangeError::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    text(status, error.to_string())
}

pub(super) async fn remove_node(State(kit): State<ClusterKit>, body: Bytes) -> Response {
    let request: RemoveRequest = match read(&body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    if !kit.is_leader() {
        return elsewhere(&kit, kit.leader().as_ref(), "/remove-node", "remove");
    }
    match kit.remove_node(&request.node_id).await {
        Ok(()) => answer("Node removed successfully", Some(object!({ "node_id": request.node_id }))),
        Err(error) => failure(&error),
    }
}

#[derive(Debug, Default, Deserialize)]
struct RebalanceRequest {
    #[serde(default)]
    topology_version: Option<u64>,
}

pub(super) async fn rebalance(State(kit): State<ClusterKit>, body: Bytes) -> Response {
    let request = if body.is_empty() { Ok(RebalanceRequest::default()) } else { read(&body) };
    let if_topology_version = match request {
        Ok(request) => request.topology_version,
        Err(response) => return *response,
    };
    let set = SetPartitions { partitions: None, if_topology_version };
    match kit.change(Operation::RebalancePartitions(set)).await {
        Ok(Outcome::Assigned { changed }) => answer("Rebalanced", Some(object!({ "changed": changed }))),
        Ok(_) => answer("Rebalanced", None),
        Err(error) => failure(&error),
    }
}

/// Nothing is exchanged but the log: the route of the older document does nothing and says so.
pub(super) async fn sync() -> Response {
    answer("nothing to do: the replicated log is the only synchronisation", None)
}

/// A change that another member was asked for. It is made here or not at all: forwarding ends here.
pub(super) async fn change(State(kit): State<ClusterKit>, body: Bytes) -> Response {
    let operation: Operation = match read(&body) {
        Ok(operation) => operation,
        Err(response) => return *response,
    };
    let outcome = match kit.change_here(operation).await {
        Ok(outcome) => Ok(outcome),
        Err(ChangeError::Refused(refusal)) => Err(refusal),
        Err(error) => return failure(&error),
    };
    json(&outcome)
}

pub(super) async fn report(State(kit): State<ClusterKit>, body: Bytes) -> Response {
    let report: Report = match read(&body) {
        Ok(report) => report,
        Err(response) => return *response,
    };
    match kit.0.hear(report) {
        Some(suspects) => json(&suspects),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "not the leader, or the observer is no member\n"),
    }
}

pub(super) async fn listed(
    State(kit): State<ClusterKit>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    if !kit.read(|state| state.members().contains_key(kit.node_id())) {
        return text(StatusCode::SERVICE_UNAVAILABLE, "this node is no member itself\n");
    }
    json(&kit.listing(asked.get("id").map_or("", String::as_str)))
}

pub(super) async fn set_custom_data(
    State(kit): State<ClusterKit>,
    Path(key): Path<String>,
    value: Bytes,
) -> Response {
    match kit.set_custom_data(&key, value).await {
        Ok(()) => answer("stored", None),
        Err(error) => failure(&error),
    }
}

pub(super) async fn delete_custom_data(State(kit): State<ClusterKit>, Path(key): Path<String>) -> Response {
    match kit.delete_custom_data(&key).await {
        Ok(()) => answer("deleted", None),
        Err(error) => failure(&error),
    }
}
