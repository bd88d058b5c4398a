//! What a node tells about itself and its cluster.

use openraft::{RaftMetrics, ServerState};
use serde::Serialize;

use crate::raft::{
    identity::Identity,
    types::{NodeId, Types},
};

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Replicates without a vote.
    Learner,
    /// Follows a leader.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Leads.
    Leader,
    /// Is stopping.
    Stopped,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name, or its number until it was met.
    #[serde(rename = "id")]
    pub name: String,
    /// Its number.
    pub node: NodeId,
    /// Its public URL.
    pub url: String,
    /// Whether it votes.
    pub voter: bool,
    /// Entries it has, as the leader knows; only there.
    pub matched_index: Option<u64>,
}

/// A node's view of itself and its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Name of the node.
    #[serde(rename = "id")]
    pub name: String,
    /// Number of the node.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Whom it voted for in this term.
    pub voted_for: Option<String>,
    /// The leader it knows.
    pub leader: Option<String>,
    /// Highest index known to be committed.
    pub commit_index: Option<u64>,
    /// Highest index applied.
    pub last_applied: Option<u64>,
    /// Highest index in the log.
    pub last_log_index: Option<u64>,
    /// Highest index in the newest snapshot.
    pub snapshot_index: Option<u64>,
    /// All members.
    pub members: Vec<Member>,
}

pub(super) fn of(metrics: &RaftMetrics<Types>, identity: &Identity) -> Status {
    let name = |node: NodeId| identity.name_of(node).unwrap_or_else(|| node.to_string());
    let membership = metrics.membership_config.membership();
    let voters: std::collections::BTreeSet<NodeId> = membership.voter_ids().collect();
    let matched = |node: &NodeId| {
        let replication = metrics.replication.as_ref()?;
        replication.get(node)?.as_ref().map(|id| id.index)
    };
    let members = membership.nodes().map(|(node, peer)| Member {
        name: name(*node),
        node: *node,
        url: peer.url.clone(),
        voter: voters.contains(node),
        matched_index: matched(node),
    });
    Status {
        name: name(metrics.id),
        node: metrics.id,
        role: match metrics.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        },
        term: metrics.current_term,
        voted_for: (metrics.current_term > 0).then(|| name(metrics.vote.leader_id.node_id)),
        leader: metrics.current_leader.map(name),
        commit_index: metrics.local_committed.map(|id| id.index),
        last_applied: metrics.last_applied.map(|id| id.index),
        last_log_index: metrics.last_log_index,
        snapshot_index: metrics.snapshot.map(|id| id.index),
        members: members.collect(),
    }
}
