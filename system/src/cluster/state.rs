//! The state every node comes to by applying the same commands: members, partitions, custom data, leases.
//!
//! [`State::apply`] is a function of the state and the command and of nothing else: no clock, no random
//! number, no input or output. A refused command changes nothing but the clock. What a member list looks
//! like does not depend on who looks: members are kept by id. Bounds: [`MAX_MEMBERS`] members,
//! [`MAX_DEPARTED`] remembered former members, and those of [`CustomData`] and [`Leases`].

mod data;
mod leases;
mod members;
mod partitions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use data::{CustomData, MAX_TOTAL_BYTES, MAX_VALUE_BYTES};
use jiff::Timestamp;
pub use leases::{Lease, Leases, Lock, MAX_LEASES, MAX_LOCKS};
use serde::{Deserialize, Serialize};

use super::{
    command::{ClusterConfig, Command, ENCODING_VERSION, LeaveReason, Operation, Outcome, Refusal},
    event::{Event, Trigger},
    name::{NodeId, PartitionId, check_name},
    node::Member,
    placement::{Assignment, MAX_MEMBERS, MAX_PARTITIONS},
    topology::Topology,
};

/// The most former members that are remembered; the one gone longest is forgotten first.
pub const MAX_DEPARTED: usize = 1_024;

/// A member and what is known of its present start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// What it says of itself.
    #[serde(flatten)]
    pub member: Member,
    /// Which start of its process this is.
    pub incarnation: Option<u64>,
    /// When it joined or came back.
    pub since: Timestamp,
}

/// What is remembered of a former member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// When it went.
    pub at: Timestamp,
    /// Why: only a node that was removed for its silence comes back by itself.
    pub reason: LeaveReason,
    /// What it was in charge of.
    pub partitions: Vec<PartitionId>,
}

/// A rebalance that has to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceDue {
    /// What last asked for it.
    pub trigger: Trigger,
    /// The node that came or went.
    pub node: NodeId,
    /// Since when it is due.
    pub since: Timestamp,
    /// When the last node came or went.
    pub latest: Timestamp,
    /// Whether more than one node came or went since the last.
    pub several: bool,
}

/// Who leads, as the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderTerm {
    /// Which node.
    pub leader: NodeId,
    /// In which term.
    pub term: u64,
    /// Since when.
    pub elected_at: Timestamp,
}

/// Everything the cluster agrees on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    cluster: Option<ClusterConfig>,
    members: BTreeMap<NodeId, MemberRecord>,
    departed: BTreeMap<NodeId, Departed>,
    /// Listed nodes whose data is gone since the last rebalance.
    lost: BTreeSet<NodeId>,
    assignment: Option<Arc<Assignment>>,
    custom_data: CustomData,
    leases: Leases,
    rebalance_due: Option<RebalanceDue>,
    leader: Option<LeaderTerm>,
    clock: Timestamp,
    applied_index: u64,
    topology_version: u64,
    #[serde(default)]
    custom_data_version: u64,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer to whoever proposed it.
    pub outcome: Result<Outcome, Refusal>,
    /// What hooks are told, in this order.
    pub events: Vec<Event>,
    /// Whether members, addresses or partitions changed.
    pub topology_changed: bool,
}

/// A snapshot that cannot be the state of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not JSON of this shape.
    #[error("snapshot cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It names no cluster.
    #[error("snapshot names no cluster; it was taken before the cluster was initialized")]
    NoCluster,
    /// It assigns another number of partitions than the cluster has.
    #[error("snapshot assigns {found} partitions, its cluster has {expected}")]
    Partitions {
        /// What it assigns.
        found: usize,
        /// What its cluster has.
        expected: u32,
    },
}

impl State {
    /// Applies the command at a position of the log. Positions must grow.
    pub fn apply(&mut self, index: u64, command: &Command) -> Applied {
        let version_before = self.topology_version;
        self.applied_index = index;
        if command.version > ENCODING_VERSION {
            let outcome = Err(Refusal::Version(command.version));
            return Applied { outcome, events: Vec::new(), topology_changed: false };
        }
        if let Operation::LeaderStarted { .. } = command.operation {
            self.leases.restart_clock(command.timestamp);
        }
        self.clock = self.clock.max(command.timestamp);
        let mut events: Vec<_> = self.leases.expire(self.clock).into_iter().map(Event::LeaseEnd).collect();
        let outcome = self.run(&command.operation, &mut events);
        Applied { outcome, events, topology_changed: self.topology_version != version_before }
    }

    fn run(&mut self, operation: &Operation, events: &mut Vec<Event>) -> Result<Outcome, Refusal> {
        match operation {
            Operation::InitCluster(config) => return self.init(config),
            Operation::LeaderStarted { leader, term } => {
                let elected_at = self.clock;
                self.leader = Some(LeaderTerm { leader: leader.clone(), term: *term, elected_at });
                return Ok(Outcome::Done);
            }
            _ if self.cluster.is_none() => return Err(Refusal::NotInitialized),
            _ => {}
        }
        match operation {
            Operation::InitCluster(_) | Operation::LeaderStarted { .. } | Operation::ExpireLeases {} => {
                Ok(Outcome::Done)
            }
            Operation::AddNode(add) => self.add_node(add, events),
            Operation::RemoveNode(remove) => self.remove_node(remove, events),
            Operation::CreatePartitions(set) => self.create_partitions(set),
            Operation::RebalancePartitions(set) => self.rebalance_partitions(set, events),
            Operation::UpdatePartition(patch) => self.update_partition(patch, events),
            Operation::SetCustomData { key, value } => {
                let set = self.custom_data.set(key, value)?;
                self.custom_data_version = self.applied_index;
                Ok(set)
            }
            Operation::DeleteCustomData(key) => {
                let deleted = self.custom_data.delete(key)?;
                self.custom_data_version = self.applied_index;
                Ok(deleted)
            }
            Operation::GrantLease { lease, owner, ttl_ms } => {
                self.leases.grant(lease, owner, *ttl_ms, self.clock)
            }
            Operation::KeepLease(lease) => self.leases.keep(lease, self.clock),
            Operation::RevokeLease(lease) => {
                events.extend(self.leases.revoke(lease, self.clock).map(Event::LeaseEnd));
                Ok(Outcome::Done)
            }
            Operation::AcquireLock { lock, lease } => self.leases.acquire(lock, lease),
            Operation::ReleaseLock { lock, lease } => self.leases.release(lock, lease),
        }
    }

    fn init(&mut self, config: &ClusterConfig) -> Result<Outcome, Refusal> {
        if let Some(cluster) = &self.cluster {
            let same = cluster == config;
            return if same {
                Ok(Outcome::Done)
            } else {
                Err(Refusal::OtherCluster(cluster.cluster_name.clone()))
            };
        }
        config.check().map_err(Refusal::Invalid)?;
        self.cluster = Some(config.clone());
        self.topology_version = self.applied_index;
        Ok(Outcome::Done)
    }

    /// Marks members, addresses or partitions as changed by the command being applied.
    fn touch_topology(&mut self) {
        self.topology_version = self.applied_index;
    }

    /// The cluster's name and numbers, once it has them.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterConfig> {
        self.cluster.as_ref()
    }

    /// All members by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, MemberRecord> {
        &self.members
    }

    /// Former members that are remembered.
    #[must_use]
    pub fn departed(&self) -> &BTreeMap<NodeId, Departed> {
        &self.departed
    }

    /// The assignment, once there is one.
    #[must_use]
    pub fn assignment(&self) -> Option<&Arc<Assignment>> {
        self.assignment.as_ref()
    }

    /// All custom data.
    #[must_use]
    pub fn custom_data(&self) -> &CustomData {
        &self.custom_data
    }

    /// All leases and locks.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// A rebalance that has to follow, if one does.
    #[must_use]
    pub fn rebalance_due(&self) -> Option<&RebalanceDue> {
        self.rebalance_due.as_ref()
    }

    /// Who leads, as the log says.
    #[must_use]
    pub fn leader(&self) -> Option<&LeaderTerm> {
        self.leader.as_ref()
    }

    /// The greatest time any command carried.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The position of the last command applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The position of the last command that changed members, addresses or partitions.
    #[must_use]
    pub fn topology_version(&self) -> u64 {
        self.topology_version
    }

    /// The position of the last command that set or deleted custom data.
    #[must_use]
    pub fn custom_data_version(&self) -> u64 {
        self.custom_data_version
    }

    /// The picture readers look keys up in.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let nodes = self.members.values().map(|record| Arc::new(record.member.node.clone())).collect();
        Topology::new(self.topology_version, nodes, self.assignment.clone())
    }

    /// The state as a snapshot.
    ///
    /// # Errors
    ///
    /// When JSON cannot be written, which no state leads to.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The state a snapshot holds.
    ///
    /// # Errors
    ///
    /// When it is not one of an initialized cluster.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let state: Self = serde_json::from_slice(bytes)?;
        let cluster = state.cluster.as_ref().ok_or(SnapshotError::NoCluster)?;
        cluster.check().map_err(|_| SnapshotError::NoCluster)?;
        let expected = cluster.partition_count;
        match &state.assignment {
            Some(assignment) if assignment.len() != expected as usize => {
                Err(SnapshotError::Partitions { found: assignment.len(), expected })
            }
            _ => Ok(state),
        }
    }
}

impl ClusterConfig {
    /// The most nodes that can be in charge of one partition.
    pub const MAX_REPLICATION_FACTOR: usize = 64;

    /// Checks the numbers and the name.
    ///
    /// # Errors
    ///
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        check_name("cluster name", &self.cluster_name).map_err(|error| error.to_string())?;
        if !(1..=MAX_PARTITIONS).contains(&self.partition_count) {
            return Err(format!("partition count {} is outside 1 to {MAX_PARTITIONS}", self.partition_count));
        }
        let factor = self.replication_factor;
        if !(1..=Self::MAX_REPLICATION_FACTOR).contains(&factor) {
            let limit = Self::MAX_REPLICATION_FACTOR;
            return Err(format!("replication factor {factor} is outside 1 to {limit}"));
        }
        Ok(())
    }
}

const _: () = assert!(MAX_DEPARTED <= MAX_MEMBERS, "a cluster remembers no more than it can hold");

#[cfg(test)]
mod tests;
