//! What may be written to the log: every change of the cluster's state, as data.
//!
//! An entry is JSON, `{"version":1,"operation":…,"data":…,"timestamp":…}`. Operation names and their data
//! are a contract with existing tools; fields beyond it are optional on reading. Everything a command
//! depends on that is not in the state (the time, drawn ids) travels in the command, so that every node
//! that applies it comes to the same state. An entry of a later version is refused, not guessed at.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    bytes64::Base64Bytes,
    name::{NodeId, PartitionId},
    node::Member,
    placement::Placement,
};

/// The version of entries written by this program.
pub const ENCODING_VERSION: u32 = 1;

fn first_version() -> u32 {
    1
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Which rules it was written by.
    #[serde(default = "first_version")]
    pub version: u32,
    /// What to do.
    #[serde(flatten)]
    pub operation: Operation,
    /// When the leader proposed it; the state's only clock.
    pub timestamp: Timestamp,
}

impl Command {
    /// A command proposed at a time.
    #[must_use]
    pub fn new(timestamp: Timestamp, operation: Operation) -> Self {
        Self { version: ENCODING_VERSION, operation, timestamp }
    }
}

/// A change of the cluster's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", content = "data", rename_all = "snake_case")]
pub enum Operation {
    /// Names the cluster and fixes its partition count; the first command of every cluster.
    InitCluster(ClusterConfig),
    /// A node has become the leader. Leases begin anew, since its clock is another's.
    LeaderStarted {
        /// Which node.
        leader: NodeId,
        /// In which term.
        term: u64,
    },
    /// A member joins, returns, or has changed what it says of itself.
    AddNode(AddNode),
    /// A member goes.
    #[serde(deserialize_with = "remove_node")]
    RemoveNode(RemoveNode),
    /// Assigns all partitions for the first time.
    CreatePartitions(SetPartitions),
    /// Assigns them again, for the members there are now.
    RebalancePartitions(SetPartitions),
    /// Patches one partition until the next rebalance.
    UpdatePartition(UpdatePartition),
    /// Sets one value.
    SetCustomData {
        /// Its key.
        key: String,
        /// The bytes.
        value: Base64Bytes,
    },
    /// Removes one value; one that is not there is fine.
    DeleteCustomData(String),
    /// Opens a lease, or confirms that it is open.
    GrantLease {
        /// Chosen by the owner, so that asking twice is asking once.
        lease: String,
        /// Who holds it, for people.
        owner: String,
        /// How long it lives without being kept.
        ttl_ms: u64,
    },
    /// Lets a lease live for its full time from now.
    KeepLease(String),
    /// Ends a lease and frees its locks.
    RevokeLease(String),
    /// Takes a lock under a lease.
    AcquireLock {
        /// Which lock.
        lock: String,
        /// Under which lease.
        lease: String,
    },
    /// Gives a lock back.
    ReleaseLock {
        /// Which lock.
        lock: String,
        /// The lease it was taken under.
        lease: String,
    },
    /// Only moves the clock, which ends the leases that are due.
    ExpireLeases {},
}

/// Fixed for the life of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    /// Id and name of the cluster.
    pub cluster_name: String,
    /// How many partitions the key space is cut into.
    pub partition_count: u32,
    /// How many nodes are in charge of each, the primary included.
    pub replication_factor: usize,
}

/// A member as it describes itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddNode {
    /// The member.
    #[serde(flatten)]
    pub member: Member,
    /// Drawn at every start of the process: the same one again is a repeated request, another one a
    /// restart. Absent in requests of older nodes, which always count as a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// When the leader last heard of it, if it is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// Why a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// Several members agreed that it does not answer.
    HealthCheckFailure,
    /// It said so itself.
    GracefulShutdown,
    /// Somebody asked for it.
    #[default]
    RemovedByAdmin,
}

/// Which member goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// Its id.
    pub id: NodeId,
    /// Why.
    #[serde(default)]
    pub reason: LeaveReason,
    /// Only if it is still this start of it: a node that came back meanwhile stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
}

fn remove_node<'de, D: Deserializer<'de>>(from: D) -> Result<RemoveNode, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Bare(NodeId),
        Full(RemoveNode),
    }
    Ok(match Either::deserialize(from)? {
        Either::Bare(id) => RemoveNode { id, reason: LeaveReason::default(), incarnation: None },
        Either::Full(full) => full,
    })
}

/// A partition as it is written in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Which one.
    pub id: PartitionId,
    /// Who decides.
    pub primary_node: NodeId,
    /// Who else holds it, in order.
    #[serde(default)]
    pub replica_nodes: Vec<NodeId>,
}

impl Partition {
    /// A partition and its nodes, as written in JSON.
    #[must_use]
    pub fn of(id: PartitionId, placement: &Placement) -> Self {
        Self { id, primary_node: placement.primary().clone(), replica_nodes: placement.replicas().to_vec() }
    }

    /// The primary, then the replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        std::iter::once(&self.primary_node).chain(&self.replica_nodes)
    }
}

/// An assignment of all partitions: computed from the members when applied, unless one is given.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetPartitions {
    /// An explicit assignment, which lasts until the next rebalance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<BTreeMap<PartitionId, Partition>>,
    /// Only if the topology is still the one a plan was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_topology_version: Option<u64>,
}

/// A patch of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePartition {
    /// Which one.
    pub id: PartitionId,
    /// Its new primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_node: Option<NodeId>,
    /// Its new replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_nodes: Option<Vec<NodeId>>,
}

/// What an applied command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// The member is listed.
    Joined {
        /// The cluster it is in.
        cluster_id: String,
        /// How many members there are now.
        node_count: usize,
    },
    /// The partitions are assigned.
    Assigned {
        /// In how many partitions something changed.
        changed: usize,
    },
    /// The lease is open.
    Lease {
        /// When it ends if it is not kept, by the leader's clock.
        expires_at: Timestamp,
    },
    /// The lock is held.
    Lock {
        /// Grows with every taking of any lock; hand it to whatever the lock protects.
        token: u64,
    },
}

/// Why an applied command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The entry was written by a later version of this program.
    #[error("log entry has version {0}, this program knows versions up to {ENCODING_VERSION}")]
    Version(u32),
    /// A field breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The cluster has no name yet.
    #[error("cluster not initialized")]
    NotInitialized,
    /// It has another name or other numbers.
    #[error("cluster `{0}` exists with other settings; its partition count never changes")]
    OtherCluster(String),
    /// At the bound of members.
    #[error("cluster is full: {0} members")]
    TooManyMembers(usize),
    /// No such member.
    #[error("node {0} not found")]
    UnknownNode(NodeId),
    /// The member came back after the removal was decided.
    #[error("node {0} has been started again; it was not removed")]
    Restarted(NodeId),
    /// Too few members to create partitions.
    #[error("not enough nodes ({nodes}) for replication factor ({replication_factor})")]
    NotEnoughNodes {
        /// How many there are.
        nodes: usize,
        /// How many it takes.
        replication_factor: usize,
    },
    /// Nothing to rebalance.
    #[error("partition map not initialized")]
    NoPartitions,
    /// They were created before.
    #[error("partitions exist already")]
    PartitionsExist,
    /// No such partition.
    #[error("partition {0} not found")]
    UnknownPartition(PartitionId),
    /// A plan was overtaken.
    #[error("topology is at version {now}, the plan was made for {planned}; make a new plan")]
    PlanOvertaken {
        /// What the plan was made for.
        planned: u64,
        /// What it is.
        now: u64,
    },
    /// Over the bound of one value.
    #[error("value too large (max 1MB, got {0} bytes)")]
    ValueTooLarge(usize),
    /// At the bound of all values together.
    #[error("custom data is full: {bytes} bytes would exceed the limit of {limit}")]
    CustomDataFull {
        /// What it would come to.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A lease of this id belongs to somebody else.
    #[error("lease `{lease}` belongs to `{owner}`")]
    LeaseTaken {
        /// The lease.
        lease: String,
        /// Who has it.
        owner: String,
    },
    /// No such lease, or not any more.
    #[error("lease `{0}` not found: it has ended or was never granted")]
    LeaseUnknown(String),
    /// At the bound of leases or locks.
    #[error("too many {what}: at most {limit}")]
    TooMany {
        /// What there are too many of.
        what: String,
        /// The bound.
        limit: usize,
    },
    /// Somebody else has the lock.
    #[error("lock `{lock}` is held by `{owner}`")]
    LockHeld {
        /// The lock.
        lock: String,
        /// Who has it.
        owner: String,
    },
    /// The lock is not held under this lease.
    #[error("lock `{0}` is not held under this lease")]
    LockNotHeld(String),
}

/// A lease lives at least this long.
pub const MIN_LEASE: Duration = Duration::from_millis(100);

/// A lease lives at most this long without being kept.
pub const MAX_LEASE: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::{Command, Operation, RemoveNode};
    use crate::cluster::command::LeaveReason;

    fn read(text: &str) -> Command {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn entries_of_the_contract_are_read() {
        let at = r#""timestamp":"2026-11-21T09:00:00Z""#;
        let add = read(&format!(
            r#"{{"operation":"add_node","data":{{"id":"n","name":"N","ip":":1","status":"active","services":{{"kv":":2"}}}},{at}}}"#
        ));
        let Operation::AddNode(add) = add.operation else { panic!("not add_node") };
        assert_eq!((add.member.node.services["kv"].as_str(), add.incarnation), (":2", None));
        let bare =
            RemoveNode { id: "n".parse().unwrap(), reason: LeaveReason::RemovedByAdmin, incarnation: None };
        for data in [r#""n""#, r#"{"id":"n"}"#] {
            let entry = read(&format!(r#"{{"operation":"remove_node","data":{data},{at}}}"#));
            assert_eq!(entry.operation, Operation::RemoveNode(bare.clone()));
        }
        let set =
            read(&format!(r#"{{"operation":"set_custom_data","data":{{"key":"k","value":"YWJj"}},{at}}}"#));
        let Operation::SetCustomData { value, .. } = set.operation else { panic!("not set_custom_data") };
        assert_eq!(value.as_ref(), b"abc");
        let delete = read(&format!(r#"{{"operation":"delete_custom_data","data":"k",{at}}}"#));
        assert_eq!(delete.operation, Operation::DeleteCustomData("k".to_owned()));
        let create = read(&format!(
            r#"{{"operation":"create_partitions","data":{{"partitions":{{"partition-0":{{"id":"partition-0","primary_node":"n","replica_nodes":[]}}}}}},{at}}}"#
        ));
        assert!(matches!(create.operation, Operation::CreatePartitions(set) if set.partitions.is_some()));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let at = "2026-11-21T09:00:00.25Z".parse().unwrap();
        let remove = RemoveNode {
            id: "n".parse().unwrap(),
            reason: LeaveReason::GracefulShutdown,
            incarnation: Some(7),
        };
        for operation in [
            Operation::RemoveNode(remove),
            Operation::ExpireLeases {},
            Operation::DeleteCustomData("k".to_owned()),
            Operation::GrantLease { lease: "l".to_owned(), owner: "o".to_owned(), ttl_ms: 5 },
        ] {
            let command = Command::new(at, operation);
            assert_eq!(read(&serde_json::to_string(&command).unwrap()), command);
        }
        let text =
            serde_json::to_string(&Command::new(at, Operation::DeleteCustomData("k".to_owned()))).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"operation":"delete_custom_data","data":"k","timestamp":"2026-11-21T09:00:00.25Z"}"#
        );
    }
}
