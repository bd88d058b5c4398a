//! How a node is: the figures of the API and of the routes `/metrics`, `/health/detailed`,
//! `/consensus/leader`, `/consensus/stats` and `/health/nodes`.
//!
//! Field names and their order are a contract with existing clients. All of them are taken from this node at
//! the moment of asking; none waits for another node.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::name::NodeId;
use crate::raft::node::Role;

/// How a time that never was is written.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

fn or_zero<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(time),
        None => to.serialize_str(ZERO_TIME),
    }
}

fn as_in_go<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&go_duration(*duration))
}

/// A duration as Go writes it, to the millisecond: `1h2m3.5s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    if duration.as_secs() == 0 {
        let millis = duration.subsec_millis();
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let rest = format!("{seconds}.{:03}", duration.subsec_millis());
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// What a node does in Raft, in the known words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RaftState {
    /// Follows a leader, with or without a vote.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Shutdown,
}

impl From<Role> for RaftState {
    fn from(role: Role) -> Self {
        match role {
            Role::Learner | Role::Follower => Self::Follower,
            Role::Candidate => Self::Candidate,
            Role::Leader => Self::Leader,
            Role::Stopped => Self::Shutdown,
        }
    }
}

/// Counters and gauges of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Members.
    pub node_count: usize,
    /// Assigned partitions.
    pub partition_count: usize,
    /// HTTP requests answered since the start.
    pub request_count: u64,
    /// Of them, those answered with a 4xx or 5xx status.
    pub error_count: u64,
    /// The newest time any applied command carries.
    #[serde(serialize_with = "or_zero")]
    pub last_sync: Option<Timestamp>,
    /// Whether this node leads.
    pub is_leader: bool,
    /// What it does in Raft.
    pub raft_state: RaftState,
    /// Seconds since the start.
    pub uptime_seconds: u64,
}

/// Whether a node is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// It is a member, and knows who leads.
    pub healthy: bool,
    /// Its id.
    pub node_id: NodeId,
    /// Its name.
    pub node_name: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// Members.
    pub node_count: usize,
    /// Assigned partitions.
    pub partition_count: usize,
    /// What it does in Raft.
    pub raft_state: RaftState,
    /// The newest time any applied command carries.
    #[serde(serialize_with = "or_zero")]
    pub last_sync: Option<Timestamp>,
    /// Since the start.
    #[serde(serialize_with = "as_in_go")]
    pub uptime: Duration,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderInfo {
    /// Its id.
    pub leader_id: NodeId,
    /// Its name.
    pub leader_name: String,
    /// Its HTTP address as configured.
    pub leader_ip: String,
    /// In which term.
    pub term: u64,
    /// Since when; none until the leader's own word on it has been applied here.
    #[serde(serialize_with = "or_zero")]
    pub elected_at: Option<Timestamp>,
}

/// How far a node's log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsensusStats {
    /// What it does in Raft.
    pub state: RaftState,
    /// Its term.
    pub term: u64,
    /// Highest index in its log.
    pub last_log_index: u64,
    /// The term of that entry.
    pub last_log_term: u64,
    /// Highest index known to be committed.
    pub commit_index: u64,
    /// Highest index applied.
    pub applied_index: u64,
    /// Other members of the Raft group.
    pub num_peers: usize,
    /// Who leads; empty if unknown.
    pub leader: String,
}

/// What a node has seen of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeHealth {
    /// Which.
    pub node_id: NodeId,
    /// Questions in a row that went unanswered.
    pub failures: u32,
    /// When it last answered.
    #[serde(serialize_with = "or_zero")]
    pub last_seen: Option<Timestamp>,
    /// Whether it answered the last question.
    pub healthy: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HealthStatus, LeaderInfo, Metrics, RaftState, go_duration};

    #[test]
    fn durations_are_written_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_500, "1.5s"),
            (10_000, "10s"),
            (62_500, "1m2.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn figures_are_written_key_for_key() {
        let metrics = Metrics {
            node_count: 1,
            partition_count: 16,
            request_count: 2,
            error_count: 0,
            last_sync: None,
            is_leader: true,
            raft_state: RaftState::Leader,
            uptime_seconds: 3,
        };
        assert_eq!(
            serde_json::to_string(&metrics).unwrap(),
            r#"{"node_count":1,"partition_count":16,"request_count":2,"error_count":0,"last_sync":"0001-01-01T00:00:00Z","is_leader":true,"raft_state":"Leader","uptime_seconds":3}"#
        );
        let health = HealthStatus {
            healthy: true,
            node_id: "node-1".parse().unwrap(),
            node_name: "Server-1".to_owned(),
            is_leader: false,
            node_count: 1,
            partition_count: 16,
            raft_state: RaftState::Follower,
            last_sync: Some("2026-11-21T09:00:00Z".parse().unwrap()),
            uptime: Duration::from_millis(62_500),
        };
        assert_eq!(
            serde_json::to_string(&health).unwrap(),
            r#"{"healthy":true,"node_id":"node-1","node_name":"Server-1","is_leader":false,"node_count":1,"partition_count":16,"raft_state":"Follower","last_sync":"2026-11-21T09:00:00Z","uptime":"1m2.5s"}"#
        );
        let leader = LeaderInfo {
            leader_id: "n".parse().unwrap(),
            leader_name: "N".to_owned(),
            leader_ip: ":8080".to_owned(),
            term: 4,
            elected_at: None,
        };
        assert_eq!(
            serde_json::to_string(&leader).unwrap(),
            r#"{"leader_id":"n","leader_name":"N","leader_ip":":8080","term":4,"elected_at":"0001-01-01T00:00:00Z"}"#
        );
    }
}
