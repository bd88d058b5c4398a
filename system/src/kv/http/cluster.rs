//! `/raft/…`: who leads, what state a node is in, membership; probes and alarms.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, answer::Failure};
use crate::raft::{
    node::{MembershipError, Role},
    types::NodeId,
};

/// Entries a node may be behind and still count as ready.
const READY_BEHIND_MAX: u64 = 5000;

type Answer = Result<Response, Failure>;

pub(super) async fn leader(State(api): State<Api>) -> Answer {
    let node = api.kv.node();
    let leader = node.leader().ok_or_else(|| Failure::no_leader("there is no leader at the moment"))?;
    let identity = node.identity();
    Ok(Json(json!({
        "id": identity.name_of(leader.node).unwrap_or_else(|| leader.node.to_string()),
        "url": leader.url,
        "term": node.status().term,
        "is_self": leader.node == identity.node(),
    }))
    .into_response())
}

pub(super) async fn state(State(api): State<Api>) -> Response {
    Json(api.kv.node().status()).into_response()
}

pub(super) async fn hash(State(api): State<Api>) -> Response {
    let node = api.kv.node().clone();
    let hashed = tokio::task::spawn_blocking(move || node.machine().hash()).await;
    match hashed {
        Ok((revision, hash)) => Json(json!({ "revision": revision, "hash": hash })).into_response(),
        Err(error) => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error).into_response(),
    }
}

/// Who a node is, asked by the leader before it adds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Whoami {
    id: String,
    node: NodeId,
    cluster: Option<u64>,
}

pub(super) async fn identity(State(api): State<Api>) -> Response {
    let identity = api.kv.node().identity();
    Json(Whoami { id: identity.name(), node: identity.node(), cluster: identity.cluster() }).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    id: String,
    url: String,
    #[serde(default)]
    learner: bool,
}

pub(super) async fn add(State(api): State<Api>, uri: Uri, body: bytes::Bytes) -> Answer {
    let member: NewMember = parse(&body)?;
    let node = api.kv.node();
    if !node.leads() {
        let error = MembershipError::NotLeader(node.leader());
        return Err(Failure::of_membership(&api, &error, &uri));
    }
    let url = member.url.trim_end_matches('/').to_owned();
    let asked = api.client.get(&format!("{url}/raft/identity")).await;
    let answer = asked.map_err(|error| Failure::bad_request(format!("{url} does not answer: {error}")))?;
    let whoami: Whoami = parse(&answer.body)?;
    if whoami.id != member.id {
        return Err(Failure::bad_request(format!(
            "the node at {url} is '{}', not '{}'",
            whoami.id, member.id
        )));
    }
    if whoami.cluster.is_some() && whoami.cluster != node.identity().cluster() {
        return Err(Failure::bad_request(format!("the node at {url} belongs to another cluster")));
    }
    let added = node.add_member(whoami.node, &url, !member.learner).await;
    added.map_err(|error| Failure::of_membership(&api, &error, &uri))?;
    Ok(members(&api))
}

pub(super) async fn remove(State(api): State<Api>, uri: Uri, Path(id): Path<String>) -> Answer {
    let node = api.kv.node();
    let removed = match node.find_member(&id) {
        _ if !node.leads() => Err(MembershipError::NotLeader(node.leader())),
        Some(member) => node.remove_member(member).await,
        None => Err(MembershipError::NotFound(id)),
    };
    removed.map_err(|error| Failure::of_membership(&api, &error, &uri))?;
    Ok(members(&api))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: String,
}

pub(super) async fn transfer(State(api): State<Api>, uri: Uri, body: bytes::Bytes) -> Answer {
    let Transfer { to } = parse(&body)?;
    let node = api.kv.node();
    let transferred = match node.find_member(&to) {
        _ if !node.leads() => Err(MembershipError::NotLeader(node.leader())),
        Some(member) => node.transfer(member).await,
        None => Err(MembershipError::NotFound(to)),
    };
    transferred.map_err(|error| Failure::of_membership(&api, &error, &uri))?;
    Ok(members(&api))
}

fn members(api: &Api) -> Response {
    Json(json!({ "members": api.kv.node().status().members })).into_response()
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body does not parse: {error}")))
}

pub(super) async fn ready(State(api): State<Api>) -> Answer {
    let status = api.kv.node().status();
    let behind = status.commit_index.unwrap_or(0).saturating_sub(status.last_applied.unwrap_or(0));
    if status.leader.is_none() || status.role == Role::Stopped {
        return Err(Failure::no_leader("this node knows no leader"));
    }
    if behind > READY_BEHIND_MAX {
        let message = format!("{behind} committed entries are not applied yet");
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "behind", message));
    }
    Ok("ok\n".into_response())
}

pub(super) async fn alarms(State(api): State<Api>) -> Response {
    let raised = api.kv.node().machine().read(crate::kv::store::Store::no_space);
    Json(json!({ "alarms": if raised { vec!["no_space"] } else { vec![] } })).into_response()
}

pub(super) async fn disarm(State(api): State<Api>, uri: Uri) -> Answer {
    let cleared = api.kv.set_alarm(false).await;
    cleared.map_err(|error| Failure::of_write(&api, &error, &uri))?;
    Ok(alarms(State(api)).await)
}
