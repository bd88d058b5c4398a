//! What a node shows of its cluster, as a stranger sees it over HTTP, and when several nodes agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::line;

/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Who has a partition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owners {
    /// The primary.
    pub primary_node: String,
    /// The replicas, in their order.
    pub replica_nodes: Vec<String>,
}

/// Members and partitions as one node shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Ids of the members.
    pub members: BTreeSet<String>,
    /// Every partition by its id.
    pub partitions: BTreeMap<String, Owners>,
}

#[derive(Deserialize)]
struct Body {
    cluster: Shown,
}

#[derive(Deserialize)]
struct Shown {
    nodes: Vec<Named>,
    partition_map: Partitions,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Partitions {
    partitions: BTreeMap<String, Owners>,
}

impl View {
    /// Reads the answer to `/cluster`.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Body { cluster } = serde_json::from_slice(body).ok()?;
        let members = cluster.nodes.into_iter().map(|node| node.id).collect();
        Some(Self { members, partitions: cluster.partition_map.partitions })
    }

    /// Asks a node; nothing if it does not answer.
    pub async fn of(endpoint: &str) -> Option<Self> {
        match line::ask(endpoint, "/cluster", ANSWER_LIMIT).await {
            Ok((StatusCode::OK, body)) => Self::read(&body),
            _ => None,
        }
    }

    /// Whether exactly these are the members, and every partition has as many distinct ones of them as the
    /// replication factor asks for.
    pub fn is_whole(&self, members: &BTreeSet<String>, replication_factor: usize) -> bool {
        let count = replication_factor.min(members.len());
        let placed = |owners: &Owners| {
            let nodes: BTreeSet<_> = owners.replica_nodes.iter().chain([&owners.primary_node]).collect();
            nodes.len() == count
                && owners.replica_nodes.len() + 1 == count
                && nodes.iter().all(|node| members.contains(*node))
        };
        self.members == *members && !self.partitions.is_empty() && self.partitions.values().all(placed)
    }

    /// In how many partitions somebody else is in charge than in `other`.
    pub fn moved_from(&self, other: &Self) -> usize {
        self.partitions.iter().filter(|(id, owners)| other.partitions.get(*id) != Some(owners)).count()
    }
}

/// Whether all views are there, whole and the same.
pub fn agree(views: &[Option<View>], members: &BTreeSet<String>, replication_factor: usize) -> bool {
    let Some(Some(first)) = views.first() else { return false };
    first.is_whole(members, replication_factor) && views.iter().all(|view| view.as_ref() == Some(first))
}

/// Who leads, by the word of a node.
pub async fn leader(endpoint: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Leader {
        leader_id: String,
    }
    let (status, body) = line::ask(endpoint, "/consensus/leader", ANSWER_LIMIT).await.ok()?;
    (status == StatusCode::OK).then(|| serde_json::from_slice::<Leader>(&body).ok())?.map(|l| l.leader_id)
}

/// Hooks that a node has delivered, and events its hooks were too slow for, since its start.
pub async fn hooks(endpoint: &str) -> Option<(u64, u64)> {
    let (_, body) = line::ask(endpoint, "/metrics/prometheus", ANSWER_LIMIT).await.ok()?;
    let text = std::str::from_utf8(&body).ok()?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    Some((value("cluster_hooks_delivered_total")?, value("cluster_hooks_missed_total")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"cluster":{"id":"c","name":"c","nodes":[{"id":"node-1"},{"id":"node-2"}],
        "partition_map":{"partitions":{
            "partition-0":{"id":"partition-0","primary_node":"node-1","replica_nodes":["node-2"]},
            "partition-1":{"id":"partition-1","primary_node":"node-2","replica_nodes":["node-1"]}}}}}"#;

    fn members(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn agreement_needs_every_view_whole_and_the_same() {
        let view = View::read(BODY.as_bytes());
        assert!(agree(&[view.clone(), view.clone()], &members(&["node-1", "node-2"]), 3));
        assert!(!agree(&[view.clone(), None], &members(&["node-1", "node-2"]), 3), "one does not answer");
        assert!(!agree(std::slice::from_ref(&view), &members(&["node-1"]), 3), "one is listed that is gone");
        assert!(!agree(&[], &members(&[]), 3));
        let mut other = view.clone();
        let partitions = &mut other.as_mut().expect("read").partitions;
        partitions.get_mut("partition-1").expect("there").replica_nodes.clear();
        assert!(!agree(&[view.clone(), other.clone()], &members(&["node-1", "node-2"]), 3));
        assert_eq!(other.expect("read").moved_from(&view.expect("read")), 1);
    }
}
