//! The JSON that is shown over HTTP and exported: a contract with existing clients, key for key.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    bytes64::Base64Bytes,
    command::{ClusterConfig, Partition},
    name::NodeId,
    node::Node,
    placement::Assignment,
    state::State,
    topology::Topology,
};

/// The hash every client uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashConfig {
    /// Always `md5`.
    pub algorithm: &'static str,
    /// Always `big_endian_uint32`.
    pub encoding: &'static str,
    /// The partition count.
    pub modulo: u32,
    /// Always `partition-%d`.
    pub format: &'static str,
}

impl HashConfig {
    /// The hash of a cluster with so many partitions.
    #[must_use]
    pub fn new(partition_count: u32) -> Self {
        Self {
            algorithm: "md5",
            encoding: "big_endian_uint32",
            modulo: partition_count,
            format: "partition-%d",
        }
    }
}

/// All partitions by id, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct PartitionMap {
    /// The partitions.
    #[serde(serialize_with = "in_order")]
    pub partitions: Vec<Partition>,
}

fn in_order<S: serde::Serializer>(partitions: &[Partition], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(partitions.iter().map(|partition| (partition.id, partition)))
}

impl PartitionMap {
    /// The map of an assignment; empty without one.
    #[must_use]
    pub fn of(assignment: Option<&Assignment>) -> Self {
        let partitions = assignment.into_iter().flat_map(Assignment::iter);
        Self { partitions: partitions.map(|(id, placement)| Partition::of(id, placement)).collect() }
    }
}

/// A cluster as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The same as its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its members by id.
    pub nodes: Vec<Node>,
    /// Its partitions.
    pub partition_map: PartitionMap,
    /// Its fixed numbers.
    pub config: ClusterConfig,
    /// Its custom data; over HTTP left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_data: BTreeMap<String, Base64Bytes>,
}

/// Whether custom data is part of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Members and partitions.
    Topology,
    /// Custom data too.
    Everything,
}

impl Cluster {
    /// The cluster a state is of; none before it has a name.
    #[must_use]
    pub fn of(state: &State, show: Show) -> Option<Self> {
        let config = state.cluster()?.clone();
        let custom_data = match show {
            Show::Topology => BTreeMap::new(),
            Show::Everything => state.custom_data().values().clone(),
        };
        Some(Self {
            id: config.cluster_name.clone(),
            name: config.cluster_name.clone(),
            nodes: state.members().values().map(|record| record.member.node.clone()).collect(),
            partition_map: PartitionMap::of(state.assignment().map(|assignment| &**assignment)),
            config,
            custom_data,
        })
    }
}

/// The body of `/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterBody {
    /// The cluster.
    pub cluster: Cluster,
    /// How to find a key's partition in it.
    pub hash_config: HashConfig,
}

impl ClusterBody {
    /// The body for a state; none before the cluster has a name.
    #[must_use]
    pub fn of(state: &State) -> Option<Self> {
        let cluster = Cluster::of(state, Show::Topology)?;
        let hash_config = HashConfig::new(cluster.config.partition_count);
        Some(Self { cluster, hash_config })
    }
}

/// The body of `/partitions/stats`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct PartitionStats {
    /// How many partitions there are.
    pub total_partitions: usize,
    /// How many each node is the primary of.
    pub partitions_per_node: BTreeMap<NodeId, usize>,
    /// How many each node is a replica of.
    pub replicas_per_node: BTreeMap<NodeId, usize>,
}

impl PartitionStats {
    /// The counts of an assignment.
    #[must_use]
    pub fn of(assignment: Option<&Assignment>) -> Self {
        let mut stats = Self::default();
        for (_, placement) in assignment.into_iter().flat_map(Assignment::iter) {
            stats.total_partitions += 1;
            *stats.partitions_per_node.entry(placement.primary().clone()).or_default() += 1;
            for replica in placement.replicas() {
                *stats.replicas_per_node.entry(replica.clone()).or_default() += 1;
            }
        }
        stats
    }
}

/// The body of `/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether there is a member and a partition, and every node of every partition is a member.
    pub ready: bool,
    /// Members.
    pub nodes: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions whose nodes are all members.
    pub valid_partitions: usize,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

impl Readiness {
    /// What a state is ready for. A node that is no member itself is not ready, whatever it still shows.
    #[must_use]
    pub fn of(state: &State, me: &NodeId) -> Self {
        let members = state.members();
        let placements = || state.assignment().into_iter().flat_map(|assignment| assignment.iter());
        let listed = |node: &NodeId| members.contains_key(node);
        let valid = placements().filter(|(_, placement)| placement.nodes().iter().all(listed)).count();
        let (nodes, partitions) = (members.len(), placements().count());
        let ready = listed(me) && partitions > 0 && valid == partitions;
        let message = (!ready).then_some("cluster not ready");
        Self { ready, nodes, partitions, valid_partitions: valid, message }
    }
}

/// The body of `/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodesPage {
    /// The members on this page, in the order of their ids.
    pub nodes: Vec<Node>,
    /// How many there are.
    pub total: usize,
    /// Where the page begins.
    pub offset: usize,
    /// How many it may hold.
    pub limit: usize,
    /// Whether there are more behind it.
    pub has_more: bool,
    /// Where the next page begins.
    pub next_offset: usize,
}

impl NodesPage {
    const DEFAULT_LIMIT: i64 = 50;

    /// A page of a state's members. What cannot be read is as if it were not there; a limit is brought into
    /// 1 to 1000, a negative offset is 0.
    #[must_use]
    pub fn of(state: &State, limit: Option<&str>, offset: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let limit = number(limit).unwrap_or(Self::DEFAULT_LIMIT).clamp(1, 1_000);
        let limit = usize::try_from(limit).unwrap_or(1);
        let offset = usize::try_from(number(offset).unwrap_or(0).max(0)).unwrap_or(usize::MAX);
        let members = state.members().values();
        let nodes: Vec<_> =
            members.skip(offset).take(limit).map(|record| record.member.node.clone()).collect();
        let total = state.members().len();
        let next_offset = offset.saturating_add(nodes.len());
        Self { nodes, total, offset, limit, has_more: next_offset < total, next_offset }
    }
}

/// The body of `/partitions/key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyLocation {
    /// The key asked for.
    pub key: String,
    /// Its partition.
    pub partition: Partition,
    /// Its primary, if that is a member.
    pub primary: Option<Arc<Node>>,
    /// Its replicas that are members.
    pub replicas: Vec<Arc<Node>>,
}

impl KeyLocation {
    /// Where a key lives; none while no partition is assigned.
    #[must_use]
    pub fn of(topology: &Topology, key: &str) -> Option<Self> {
        let id = topology.locate(key.as_bytes())?.partition();
        let placement = topology.assignment()?.get(id)?;
        let node = |id: &NodeId| topology.node(id).cloned();
        Some(Self {
            key: key.to_owned(),
            partition: Partition::of(id, placement),
            primary: node(placement.primary()),
            replicas: placement.replicas().iter().filter_map(node).collect(),
        })
    }
}

/// The body of answers that only say how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether it went well.
    pub success: bool,
    /// What to tell a person.
    pub message: String,
    /// More, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests;
