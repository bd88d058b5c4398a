//! Containers of runs that were killed.
//!
//! A container is removed if its labels name an owner on this boot of this machine that is gone, or one on
//! another boot and it no longer runs: an engine may be shared with another machine, whose processes cannot
//! be seen from here.

use std::collections::HashMap;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use crate::orphans::{ProcessId, host};

/// Label: the run.
pub(crate) const RUN: &str = "queuebench.run";
/// Label: who started it, as JSON.
pub(crate) const OWNER: &str = "queuebench.owner";
/// Label: unique per start.
pub(crate) const SERVER: &str = "queuebench.server";

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    host: String,
    process: ProcessId,
}

/// The owner label's value for this process.
pub(crate) fn owner_label() -> String {
    let process = ProcessId::own().unwrap_or(ProcessId { pid: 0, start_ticks: 0 });
    serde_json::to_string(&Owner { host: host(), process }).unwrap_or_default()
}

/// Removes what dead owners left; returns one sentence per container.
pub(crate) async fn sweep(engine: &Engine) -> Vec<String> {
    let mut swept = Vec::new();
    for (id, labels, running) in labelled(&engine.docker, OWNER).await {
        let Some(owner) = labels.get(OWNER).and_then(|text| serde_json::from_str::<Owner>(text).ok()) else {
            continue;
        };
        let is_orphan = if owner.host == host() {
            !owner.process.is_alive()
        } else {
            other_boot(&owner.host) && !running
        };
        if is_orphan && remove(&engine.docker, &id).await {
            let run = labels.get(RUN).map_or("?", String::as_str);
            swept.push(format!("removed container {id:.12} of run {run}"));
        }
    }
    swept
}

/// Removes every container of one start: for a start that failed half-way.
pub(crate) async fn remove_server(docker: &Docker, unique_name: &str) {
    for (id, _, _) in labelled(docker, &format!("{SERVER}={unique_name}")).await {
        remove(docker, &id).await;
    }
}

async fn remove(docker: &Docker, id: &str) -> bool {
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    docker.remove_container(id, Some(options)).await.is_ok()
}

async fn labelled(docker: &Docker, label: &str) -> Vec<(String, HashMap<String, String>, bool)> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label.to_owned()])])),
        ..ListContainersOptions::default()
    };
    let containers = docker.list_containers(Some(options)).await.unwrap_or_default();
    containers
        .into_iter()
        .filter_map(|container| {
            let running = container
                .state
                .is_some_and(|state| matches!(state.as_ref(), "running" | "paused" | "restarting"));
            Some((container.id?, container.labels.unwrap_or_default(), running))
        })
        .collect()
}

fn other_boot(of: &str) -> bool {
    of.split(' ').next() != host().split(' ').next()
}
