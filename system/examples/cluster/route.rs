//! The store over HTTP.
//!
//! Routes and shapes are those of the examples' clients; `version` on `/kv/set`, `records` in `/kv/migrate`
//! and `/kv/merge` are additions that they may ignore. In server-side mode the primary confirms a write only
//! when one replica has it too; when none can be reached it says so (`"warning":"not_replicated"`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::StatusCode;
use queuebench_system::cluster::{ClusterKit, Node, PartitionRole};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Mode,
    http::{Http, escape, kv_url},
    store::{Record, Store, now},
};

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) mode: Mode,
    pub(crate) kit: ClusterKit,
    pub(crate) store: Arc<Store>,
    pub(crate) http: Http,
}

type Asked = Query<HashMap<String, String>>;

#[derive(Debug, Deserialize)]
struct Set {
    key: String,
    value: String,
    /// Sent by another node: store it, whoever is in charge.
    #[serde(default)]
    replicate: bool,
    #[serde(default)]
    version: Option<u64>,
}

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/kv/set", post(set))
        .route("/kv/get", get(read))
        .route("/kv/delete", any(delete))
        .route("/kv/stats", get(stats))
        .route("/kv/migrate", get(migrate))
        .route("/kv/merge", post(merge))
        .route("/kv/partitions", get(partitions))
        .with_state(shared)
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into()).into_response()
}

fn role_text(role: Option<PartitionRole>) -> &'static str {
    match role {
        Some(PartitionRole::Primary) => "primary",
        Some(PartitionRole::Replica) => "replica",
        None => "",
    }
}

impl Shared {
    /// This node's part, and the stores of the others in charge, the primary's first.
    fn in_charge(&self, key: &str) -> Option<(Option<PartitionRole>, Vec<String>)> {
        let responsibility = self.kit.responsibility(key).ok()?;
        let others = responsibility.nodes.iter().filter(|node| node.id != *self.kit.node_id());
        let address = |node: &Arc<Node>| node.services.get("kv").map(|address| kv_url(address));
        Some((responsibility.role, others.filter_map(address).collect()))
    }

    fn put(&self, key: &str, record: &Record) -> Result<(), Box<Response>> {
        let failed =
            |error: std::io::Error| Box::new(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        self.store.put(key, record).map_err(failed)
    }

    /// Sends a record to the others; true as soon as one has it. The rest goes on in the background.
    async fn replicate(&self, key: &str, record: &Record, others: &[String]) -> bool {
        let body = Bytes::from(json!(BTreeMap::from([(key, record)])).to_string());
        let (told, mut first) = tokio::sync::mpsc::channel(others.len().max(1));
        for other in others {
            let (http, url, body, told) =
                (self.http.clone(), format!("{other}/kv/merge"), body.clone(), told.clone());
            tokio::spawn(async move {
                let stored = http.ask(http::Method::POST, &url, body).await.0 == 200;
                // Whoever waited may have heard enough.
                let _ = told.send(stored).await;
            });
        }
        drop(told);
        while let Some(stored) = first.recv().await {
            if stored {
                return true;
            }
        }
        false
    }

    /// Writes or deletes as the mode says; `Err` is the answer to the client.
    async fn write(
        &self,
        key: &str,
        record: Record,
        internal: bool,
        done: &str,
    ) -> Result<Value, Box<Response>> {
        let id = self.kit.node_id();
        if self.mode != Mode::ServerSide {
            self.put(key, &record)?;
            return Ok(json!({ "status": done, "node_id": id }));
        }
        if internal {
            self.put(key, &record)?;
            let role = self.in_charge(key).and_then(|(role, _)| role);
            return Ok(json!({ "status": done, "role": role_text(role), "node": id }));
        }
        let Some((role, others)) = self.in_charge(key) else {
            return Err(Box::new(refuse(StatusCode::SERVICE_UNAVAILABLE, "no partitions available")));
        };
        if role.is_none() {
            let path = if record.value.is_some() { "set" } else { "delete" };
            let body = json!({ "key": key, "value": record.value, "version": record.version });
            for other in &others {
                let url = format!("{other}/kv/{path}?key={}", escape(key));
                let (status, answer) = self.http.ask(http::Method::POST, &url, body.to_string()).await;
                if status == 200 {
                    // A doubt of the node that took it is passed on.
                    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    return Ok(match answer.get("warning") {
                        Some(warning) => json!({ "status": "forwarded", "warning": warning }),
                        None => json!({ "status": "forwarded" }),
                    });
                }
            }
            return Err(Box::new(refuse(StatusCode::SERVICE_UNAVAILABLE, "all nodes unavailable")));
        }
        self.put(key, &record)?;
        let replicated = self.replicate(key, &record, &others).await;
        let mut answer = json!({ "status": done, "role": role_text(role), "node": id });
        if role == Some(PartitionRole::Replica) {
            answer["warning"] = json!(if replicated { "written_to_replica" } else { "not_replicated" });
        } else if !replicated && !others.is_empty() {
            answer["warning"] = json!("not_replicated");
        }
        Ok(answer)
    }
}

async fn set(State(shared): State<Shared>, body: Bytes) -> Response {
    let set: Set = match serde_json::from_slice(&body) {
        Ok(set) => set,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let record = Record { version: set.version.unwrap_or_else(now), value: Some(set.value) };
    shared
        .write(&set.key, record, set.replicate, "ok")
        .await
        .map_or_else(|answer| *answer, |done| Json(done).into_response())
}

async fn delete(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let Some(key) = asked.get("key") else { return refuse(StatusCode::BAD_REQUEST, "key required") };
    let record = Record { version: now(), value: None };
    shared
        .write(key, record, false, "deleted")
        .await
        .map_or_else(|answer| *answer, |done| Json(done).into_response())
}

async fn read(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let Some(key) = asked.get("key") else { return refuse(StatusCode::BAD_REQUEST, "key required") };
    let found = shared.store.get(key);
    let server_side = shared.mode == Mode::ServerSide;
    if let Some(record) = &found {
        let Some(value) = &record.value else { return refuse(StatusCode::NOT_FOUND, "key not found") };
        let mut answer = json!({ "key": key, "value": value });
        if server_side {
            answer["role"] = json!(role_text(shared.in_charge(key).and_then(|(role, _)| role)));
            answer["node"] = json!(shared.kit.node_id());
        }
        return Json(answer).into_response();
    }
    // Not here: not ours, or not copied yet. A node that was asked by another does not ask on.
    if server_side && !asked.contains_key("local") {
        let others = shared.in_charge(key).map(|(_, others)| others).unwrap_or_default();
        let ask = |other: &String| {
            let url = format!("{other}/kv/get?local=1&key={}", escape(key));
            let http = shared.http.clone();
            async move { http.get(&url).await }
        };
        let mut asked: FuturesUnordered<_> = others.iter().map(ask).collect();
        while let Some((status, body)) = asked.next().await {
            if status == 200 {
                return ([(http::header::CONTENT_TYPE, "application/json")], body).into_response();
            }
        }
    }
    refuse(StatusCode::NOT_FOUND, "key not found")
}

async fn stats(State(shared): State<Shared>) -> Json<Value> {
    let (id, keys) = (shared.kit.node_id(), shared.store.len());
    let mode = match shared.mode {
        Mode::ServerSide => {
            let (owned, held) = shared.kit.read(|state| state.partitions_of(id));
            return Json(json!({
                "node_id": id,
                "total_keys": keys,
                "primary_partitions": owned.len(),
                "replica_partitions": held.len(),
                "mode": "server-side",
            }));
        }
        Mode::SyncReplication => "sync-quorum",
        Mode::AsyncReplication => "async-replicated",
        Mode::CustomData => "custom-data",
    };
    Json(json!({ "node_id": id, "keys": keys, "mode": mode }))
}

async fn migrate(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let Some(partition) = asked.get("partition") else {
        return refuse(StatusCode::BAD_REQUEST, "partition required");
    };
    let topology = shared.kit.snapshot();
    let fits = |key: &str| {
        topology.locate(key.as_bytes()).is_some_and(|found| found.partition().to_string() == *partition)
    };
    let records: BTreeMap<_, _> = shared.store.select(fits).into_iter().collect();
    let keys: BTreeMap<_, _> =
        records.iter().filter_map(|(key, record)| record.value.as_ref().map(|value| (key, value))).collect();
    let count = keys.len();
    Json(json!({ "partition_id": partition, "keys": keys, "count": count, "records": records }))
        .into_response()
}

/// Records of another node, with their versions.
async fn merge(State(shared): State<Shared>, body: Bytes) -> Response {
    let records: BTreeMap<String, Record> = match serde_json::from_slice(&body) {
        Ok(records) => records,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    for (key, record) in &records {
        if let Err(answer) = shared.put(key, record) {
            return *answer;
        }
    }
    Json(json!({ "status": "ok", "count": records.len() })).into_response()
}

async fn partitions(State(shared): State<Shared>) -> Json<Value> {
    let id = shared.kit.node_id();
    let mine = shared.kit.partitions_for_node(id).into_iter().map(|partition| {
        let role = if shared.kit.is_primary(&partition) { "primary" } else { "replica" };
        json!({ "partition_id": partition.id, "role": role })
    });
    Json(json!({ "node_id": id, "partitions": mine.collect::<Vec<_>>() }))
}
