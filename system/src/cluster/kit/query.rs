//! Questions: answered from what this node has applied, without waiting and without a lock on the lookups.
//!
//! | documented name | here |
//! |---|---|
//! | GetCluster | [`ClusterKit::cluster`] |
//! | GetPartition, GetPartitionForKey | [`ClusterKit::partition`] |
//! | GetNodes, GetPrimary, GetReplicas | [`ClusterKit::nodes`], [`ClusterKit::primary`], [`ClusterKit::replicas`] |
//! | GetPrimaryNode, GetReplicaNodes, GetAllNodesForKey, GetNodesForKey | the same in snake case |
//! | AmIResponsibleFor | [`ClusterKit::responsibility`] |
//! | IsPrimary, IsReplica, IsPrimaryForKey | the same in snake case |
//! | GetMyNodeID, GetMyNodeInfo | [`ClusterKit::node_id`], [`ClusterKit::node`] |
//! | GetPartitionsForNode, ListPartitions, GetPartitionStats | the same in snake case |
//! | GetCustomData, ListCustomDataKeys | [`ClusterKit::custom_data`], [`ClusterKit::custom_data_keys`] |
//! | GetMetrics, HealthCheck | [`ClusterKit::metrics`], [`ClusterKit::health_check`] |
//!
//! A question sees what this node has applied, which may be older than what was acknowledged elsewhere;
//! [`ClusterKit::catch_up`] waits until it is not.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::ClusterKit;
use crate::{
    cluster::{
        changes::RebalancePlan,
        command::{Partition, Refusal},
        error::QueryError,
        name::NodeId,
        node::Node,
        state::State,
        status::{HealthStatus, Metrics, NodeHealth},
        topology::{Topology, TopologyRef},
        view::{Cluster, PartitionMap, PartitionStats, Show},
    },
    raft::node::{ReadPolicy, Role},
};

/// What a node is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionRole {
    /// It decides.
    Primary,
    /// It holds a copy.
    Replica,
}

/// Who is in charge of a key, seen from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responsibility {
    /// What this node is to the key's partition; none if it does not hold it.
    pub role: Option<PartitionRole>,
    /// All nodes in charge, the primary first.
    pub nodes: Vec<Arc<Node>>,
}

impl ClusterKit {
    /// Looks at everything the cluster agrees on; be quick, applying waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.0.machine.read(look)
    }

    /// Returns once this node shows everything that was acknowledged anywhere before the call, as the leader
    /// and a majority confirm: what is asked afterwards is linearizable.
    ///
    /// # Errors
    ///
    /// When no leader confirms in time.
    pub async fn catch_up(&self) -> Result<(), QueryError> {
        let deadline = Instant::now() + self.1;
        loop {
            let barrier = self.0.raft.read_barrier(ReadPolicy::ReadIndex).await;
            match barrier {
                Ok(()) => return Ok(()),
                // Between two leaders, for instance: asking again does no harm.
                Err(_) if Instant::now() < deadline && !self.0.stopped() => {
                    tokio::time::sleep(super::RETRY_PAUSE).await;
                }
                Err(error) => return Err(QueryError::Behind(error.to_string())),
            }
        }
    }

    /// The current picture for a short look: the way to look keys up in a hot path.
    ///
    /// ```
    /// # use queuebench_system::cluster::{ClusterKit, QueryError};
    /// fn route(kit: &ClusterKit, key: &[u8]) -> Option<String> {
    ///     let topology = kit.topology();
    ///     Some(topology.locate(key)?.primary()?.http_addr())
    /// }
    /// ```
    #[must_use]
    pub fn topology(&self) -> TopologyRef {
        self.0.machine.topology().read()
    }

    /// The current picture to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Topology> {
        self.0.machine.topology().snapshot()
    }

    /// The cluster as it is shown, custom data included; none before it has a name.
    ///
    /// # Errors
    ///
    /// Before the cluster has been initialized.
    pub fn cluster(&self) -> Result<Cluster, QueryError> {
        self.read(|state| Cluster::of(state, Show::Everything)).ok_or(QueryError::NotInitialized)
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.0.settings.node.id
    }

    /// What others see of this node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.settings.node
    }

    /// The partition a key belongs to.
    ///
    /// # Errors
    ///
    /// While no partition is assigned.
    pub fn partition(&self, key: impl AsRef<[u8]>) -> Result<Partition, QueryError> {
        let topology = self.topology();
        let located = topology.locate(key.as_ref()).ok_or(QueryError::NoPartitions)?;
        let id = located.partition();
        let placement = topology.assignment().and_then(|assignment| assignment.get(id));
        placement.map(|placement| Partition::of(id, placement)).ok_or(QueryError::UnknownPartition(id))
    }

    /// A partition's nodes that are members, the primary first.
    #[must_use]
    pub fn nodes(&self, partition: &Partition) -> Vec<Arc<Node>> {
        let topology = self.topology();
        partition.nodes().filter_map(|id| topology.node(id).cloned()).collect()
    }

    /// A partition's primary, if it is a member.
    #[must_use]
    pub fn primary(&self, partition: &Partition) -> Option<Arc<Node>> {
        self.topology().node(&partition.primary_node).cloned()
    }

    /// A partition's replicas that are members, in their order.
    #[must_use]
    pub fn replicas(&self, partition: &Partition) -> Vec<Arc<Node>> {
        let topology = self.topology();
        partition.replica_nodes.iter().filter_map(|id| topology.node(id).cloned()).collect()
    }

    /// The nodes in charge of a key, the primary first.
    ///
    /// # Errors
    ///
    /// While no partition is assigned.
    pub fn nodes_for_key(&self, key: impl AsRef<[u8]>) -> Result<Vec<Arc<Node>>, QueryError> {
        let topology = self.topology();
        let located = topology.locate(key.as_ref()).ok_or(QueryError::NoPartitions)?;
        Ok(located.nodes().cloned().collect())
    }

    /// A key's primary.
    ///
    /// # Errors
    ///
    /// While no partition is assigned, and when the primary is no member any more.
    pub fn primary_node(&self, key: impl AsRef<[u8]>) -> Result<Arc<Node>, QueryError> {
        let partition = self.partition(key)?;
        self.primary(&partition).ok_or(QueryError::UnknownNode(partition.primary_node))
    }

    /// A key's replicas that are members, in their order.
    ///
    /// # Errors
    ///
    /// While no partition is assigned.
    pub fn replica_nodes(&self, key: impl AsRef<[u8]>) -> Result<Vec<Arc<Node>>, QueryError> {
        self.partition(key).map(|partition| self.replicas(&partition))
    }

    /// A key's primary and its replicas.
    ///
    /// # Errors
    ///
    /// As [`ClusterKit::primary_node`].
    pub fn all_nodes_for_key(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<(Arc<Node>, Vec<Arc<Node>>), QueryError> {
        let partition = self.partition(key)?;
        let primary = self.primary(&partition);
        let replicas = self.replicas(&partition);
        Ok((primary.ok_or(QueryError::UnknownNode(partition.primary_node))?, replicas))
    }

    /// What this node is to a key, and who is in charge of it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use queuebench_system::cluster::ClusterKit;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let kit = ClusterKit::builder("node-1", "127.0.0.1:0").raft_addr("127.0.0.1:0").data_dir(directory.path());
    /// # let kit = kit.replication_factor(1).start().await.unwrap();
    /// # kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
    /// use queuebench_system::cluster::PartitionRole;
    ///
    /// let responsibility = kit.responsibility("user:1").unwrap();
    /// match responsibility.role {
    ///     Some(PartitionRole::Primary) => { /* decide here, replicate to responsibility.nodes */ }
    ///     Some(PartitionRole::Replica) | None => { /* forward to responsibility.nodes[0] */ }
    /// }
    /// # assert_eq!(responsibility.role, Some(PartitionRole::Primary));
    /// # kit.stop().await;
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// While no partition is assigned.
    pub fn responsibility(&self, key: impl AsRef<[u8]>) -> Result<Responsibility, QueryError> {
        let nodes = self.nodes_for_key(key)?;
        let role = match nodes.iter().position(|node| node.id == *self.node_id()) {
            Some(0) => Some(PartitionRole::Primary),
            Some(_) => Some(PartitionRole::Replica),
            None => None,
        };
        Ok(Responsibility { role, nodes })
    }

    /// Whether this node is a partition's primary.
    #[must_use]
    pub fn is_primary(&self, partition: &Partition) -> bool {
        partition.primary_node == *self.node_id()
    }

    /// Whether this node is one of a partition's replicas.
    #[must_use]
    pub fn is_replica(&self, partition: &Partition) -> bool {
        partition.replica_nodes.contains(self.node_id())
    }

    /// Whether this node is the primary of a key.
    #[must_use]
    pub fn is_primary_for_key(&self, key: impl AsRef<[u8]>) -> bool {
        let topology = self.topology();
        let primary = topology.locate(key.as_ref()).and_then(|located| located.primary());
        primary.is_some_and(|node| node.id == *self.node_id())
    }

    /// What a node is primary or replica of, by number.
    #[must_use]
    pub fn partitions_for_node(&self, node: &NodeId) -> Vec<Partition> {
        let mut partitions = self.list_partitions();
        partitions.retain(|partition| partition.nodes().any(|id| id == node));
        partitions
    }

    /// All partitions, by number.
    #[must_use]
    pub fn list_partitions(&self) -> Vec<Partition> {
        PartitionMap::of(self.topology().assignment()).partitions
    }

    /// How many partitions each node is primary and replica of.
    #[must_use]
    pub fn partition_stats(&self) -> PartitionStats {
        PartitionStats::of(self.topology().assignment())
    }

    /// What a rebalance would do.
    ///
    /// # Errors
    ///
    /// Before there are partitions.
    pub fn plan_rebalance(&self) -> Result<RebalancePlan, Refusal> {
        self.read(State::plan_rebalance)
    }

    /// One value of the custom data, as this node has it.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn custom_data(&self, key: &str) -> Result<Bytes, QueryError> {
        let value = self.read(|state| state.custom_data().get(key).map(|value| value.0.clone()));
        value.ok_or_else(|| QueryError::UnknownKey(key.to_owned()))
    }

    /// The keys of all custom data, in order.
    #[must_use]
    pub fn custom_data_keys(&self) -> Vec<String> {
        self.read(|state| state.custom_data().values().keys().cloned().collect())
    }

    /// Counters and gauges of this node.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let role = self.0.raft.status().role;
        let (node_count, partition_count, clock) = self.read(|state| {
            let partitions = state.assignment().map_or(0, |assignment| assignment.len());
            (state.members().len(), partitions, state.clock())
        });
        Metrics {
            node_count,
            partition_count,
            request_count: self.0.requests.load(Ordering::Relaxed),
            error_count: self.0.errors.load(Ordering::Relaxed),
            last_sync: (clock != Timestamp::default()).then_some(clock),
            is_leader: role == Role::Leader,
            raft_state: role.into(),
            uptime_seconds: self.0.started.elapsed().as_secs(),
        }
    }

    /// Whether this node is well.
    #[must_use]
    pub fn health_check(&self) -> HealthStatus {
        let metrics = self.metrics();
        let member = self.read(|state| state.members().contains_key(self.node_id()));
        HealthStatus {
            healthy: member && self.leader().is_some(),
            node_id: self.node_id().clone(),
            node_name: self.node().name.clone(),
            is_leader: metrics.is_leader,
            node_count: metrics.node_count,
            partition_count: metrics.partition_count,
            raft_state: metrics.raft_state,
            last_sync: metrics.last_sync,
            uptime: self.0.started.elapsed(),
        }
    }

    /// What this node has seen of the members it watches.
    #[must_use]
    pub fn watched(&self) -> Vec<NodeHealth> {
        let (up, now) = (self.0.started.elapsed(), Timestamp::now());
        let ago = |at: Duration| jiff::SignedDuration::try_from(up.saturating_sub(at)).ok();
        let watch = self.0.watch.lock();
        let health = watch.seen().map(|(id, seen)| NodeHealth {
            node_id: id.clone(),
            failures: seen.failures,
            last_seen: seen.answered_at.and_then(ago).and_then(|ago| now.checked_sub(ago).ok()),
            healthy: seen.failures == 0,
        });
        health.collect()
    }
}
