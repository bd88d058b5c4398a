//! What happened, as hooks and event streams are told: one value per kind of hook.
//!
//! All but [`Event::HealthChange`] and [`Event::StateReplaced`] come out of applied commands, so every node sees the same events in the
//! same order. Within one command the order is: who came or went, then the rebalance's start, its partition
//! changes, its completion.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    command::LeaveReason,
    name::{NodeId, PartitionId},
    node::Node,
};

/// Something a hook may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node has become a member for the first time.
    NodeJoin(NodeJoin),
    /// A member was started again, or came back.
    NodeRejoin(NodeRejoin),
    /// A member has gone.
    NodeLeave(NodeLeave),
    /// An assignment is about to change.
    RebalanceStart(Rebalance),
    /// A node has to have a partition's data.
    PartitionChange(Box<PartitionChange>),
    /// An assignment has changed.
    RebalanceComplete(RebalanceComplete),
    /// A lease has ended, and with it its locks.
    LeaseEnd(LeaseEnd),
    /// This node sees the cluster's health otherwise than before.
    HealthChange(HealthChange),
    /// This node was so far behind that it was sent the state instead of the commands: what they would have
    /// told is lost, look at the state itself.
    StateReplaced(StateReplaced),
}

/// See [`Event::StateReplaced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateReplaced {
    /// The position of the last command whose events were told.
    pub from_index: u64,
    /// The position the new state stands for.
    pub to_index: u64,
}

/// See [`Event::NodeJoin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeJoin {
    /// Who.
    pub node: Node,
    /// How many members there are now.
    pub cluster_size: usize,
    /// Whether it is the first member of the cluster.
    pub is_bootstrap: bool,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// How a node came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejoinKind {
    /// A member was started again with its data; its partitions are still its own, nothing needs copying.
    Restarted,
    /// It had been removed. What it holds may be stale: clear it, [`PartitionChange`] brings it back.
    Returned,
    /// A new node plays its part, with an empty data directory.
    Replaced,
}

/// See [`Event::NodeRejoin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeRejoin {
    /// Who.
    pub node: Node,
    /// How.
    pub kind: RejoinKind,
    /// For how long it was away, as far as is known.
    pub offline: Duration,
    /// When it was last known to be there.
    pub last_seen_at: Timestamp,
    /// What it was in charge of.
    pub partitions_before_leave: Vec<PartitionId>,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// See [`Event::NodeLeave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeLeave {
    /// Who.
    pub node: Node,
    /// Why.
    pub reason: LeaveReason,
    /// What it was the primary of.
    pub partitions_owned: Vec<PartitionId>,
    /// What it was a replica of.
    pub partitions_replica: Vec<PartitionId>,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// What set off a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A node came.
    NodeJoin,
    /// A node went.
    NodeLeave,
    /// Somebody asked for it.
    Manual,
}

/// Why a partition changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReason {
    /// A node came.
    NodeJoin,
    /// A node went.
    NodeLeave,
    /// Several nodes came and went before one rebalance.
    Rebalance,
    /// Somebody asked for it.
    Manual,
}

/// See [`Event::RebalanceStart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rebalance {
    /// What set it off.
    pub trigger: Trigger,
    /// The last node that came or went, if one did.
    pub trigger_node: Option<NodeId>,
    /// In how many partitions something changes.
    pub partitions_to_move: usize,
    /// Whose partitions change.
    pub nodes_affected: Vec<NodeId>,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// See [`Event::RebalanceComplete`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RebalanceComplete {
    /// What was begun.
    #[serde(flatten)]
    pub rebalance: Rebalance,
    /// From what set it off until the new assignment was proposed.
    pub duration: Duration,
}

/// See [`Event::PartitionChange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionChange {
    /// Which partition.
    pub partition: PartitionId,
    /// Who has the data, best first.
    pub copy_from: Vec<Node>,
    /// Who must have it.
    pub copy_to: Node,
    /// The target holds the data already (as a former replica or primary): nothing needs copying.
    pub already_holder: bool,
    /// Why.
    pub reason: ChangeReason,
    /// Who decided until now.
    pub old_primary: NodeId,
    /// Who decides now.
    pub new_primary: NodeId,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// See [`Event::LeaseEnd`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseEnd {
    /// Which lease.
    pub lease: String,
    /// Whose.
    pub owner: String,
    /// The locks that are free now.
    pub locks: Vec<String>,
    /// Whether it ran out, rather than being given back.
    pub expired: bool,
    /// When it was proposed.
    pub timestamp: Timestamp,
}

/// How well a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterStatus {
    /// Everybody answers.
    #[default]
    Healthy,
    /// Somebody does not.
    Degraded,
    /// So many do not that nothing can be decided.
    Critical,
}

/// See [`Event::HealthChange`]. Local: each node tells what it sees itself, since a cluster in need of this
/// event may not be able to agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthChange {
    /// How many answer.
    pub healthy_nodes: usize,
    /// How many do not.
    pub unhealthy_nodes: usize,
    /// How many members there are.
    pub total_nodes: usize,
    /// What that makes.
    pub status: ClusterStatus,
    /// Who does not answer.
    pub unhealthy_node_ids: Vec<NodeId>,
    /// When this node noticed.
    pub timestamp: Timestamp,
}
