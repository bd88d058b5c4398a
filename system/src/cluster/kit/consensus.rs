//! Looking at and steering consensus itself.

use std::time::Duration;

use serde_json::json;

use super::{CHANGE_TIMEOUT, ClusterKit};
use crate::{
    cluster::{
        command::{Operation, Outcome, Refusal},
        error::{ChangeError, QueryError},
        name::NodeId,
        node::{Node, check_address},
        status::{ConsensusStats, LeaderInfo},
    },
    raft::node::{MembershipError, Role},
};

impl ClusterKit {
    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0.raft.status().role == Role::Leader
    }

    /// Who leads, if it is a member already.
    #[must_use]
    pub fn leader(&self) -> Option<Node> {
        let leader = self.0.raft.leader()?.node;
        self.read(|state| {
            let mut members = state.members().values();
            let record = members.find(|record| record.member.raft_id == leader)?;
            Some(record.member.node.clone())
        })
    }

    /// Who leads, in which term and since when.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use queuebench_system::cluster::ClusterKit;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let kit = ClusterKit::builder("node-1", "127.0.0.1:0").raft_addr("127.0.0.1:0").data_dir(directory.path());
    /// # let kit = kit.replication_factor(1).start().await.unwrap();
    /// # kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
    /// kit.wait_for_leader(Duration::from_secs(5)).await.unwrap();
    /// let leader = kit.leader_info().unwrap();
    /// assert!(leader.leader_id == *kit.node_id() && leader.term > 0);
    /// assert_eq!(kit.consensus_stats().leader, "node-1");
    /// # kit.stop().await;
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// When nobody does.
    pub fn leader_info(&self) -> Result<LeaderInfo, QueryError> {
        let leader = self.leader().ok_or(QueryError::NoLeader)?;
        let term = self.term();
        let elected_at = self.read(|state| {
            let told = state.leader().filter(|told| told.term == term && told.leader == leader.id);
            told.map(|told| told.elected_at)
        });
        Ok(LeaderInfo {
            leader_id: leader.id,
            leader_name: leader.name,
            leader_ip: leader.ip,
            term,
            elected_at,
        })
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.raft.status().term
    }

    /// Waits until somebody leads.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub async fn wait_for_leader(&self, timeout: Duration) -> Result<Node, QueryError> {
        let wait = async {
            loop {
                if let Some(leader) = self.leader() {
                    return leader;
                }
                tokio::time::sleep(super::RETRY_PAUSE).await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| QueryError::LeaderTimeout)
    }

    /// Waits until all partitions are assigned.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub async fn wait_for_partitions(&self, timeout: Duration) -> Result<(), QueryError> {
        let mut version = self.0.machine.version();
        let assigned = version.wait_for(|_| self.topology().partition_count() > 0);
        match tokio::time::timeout(timeout, assigned).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(QueryError::NoPartitions),
        }
    }

    /// How far this node's log is.
    #[must_use]
    pub fn consensus_stats(&self) -> ConsensusStats {
        let status = self.0.raft.status();
        ConsensusStats {
            state: status.role.into(),
            term: status.term,
            last_log_index: status.last_log_index.unwrap_or(0),
            // A leader writes an entry when its term begins, so the last entry of whoever follows is of it.
            last_log_term: if status.last_log_index.is_some() { status.term } else { 0 },
            commit_index: status.commit_index.unwrap_or(0),
            applied_index: status.last_applied.unwrap_or(0),
            num_peers: status.members.len().saturating_sub(1),
            leader: self.leader().map_or_else(String::new, |leader| leader.id.to_string()),
        }
    }

    /// Gives a listed member its vote at a Raft address. Members get their votes by themselves; this is for
    /// one whose address changed while it cannot say so. A vote without a listing is not given: the member
    /// list is what decides who votes.
    ///
    /// # Errors
    ///
    /// Off the leader, for a node that is no member, and when Raft does not make the change.
    pub async fn add_voter(&self, id: &NodeId, raft_addr: &str) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::OnlyLeader("add voters"));
        }
        check_address("raft_addr", raft_addr).map_err(|error| ChangeError::Rejected(error.to_string()))?;
        let member = self.read(|state| state.members().get(id).map(|record| record.member.raft_id));
        let raft_id = member.ok_or_else(|| Refusal::UnknownNode(id.clone()))?;
        let url = self.0.settings.raft_url(raft_addr);
        let add = self.0.raft.add_member(raft_id, &url, true);
        let added = tokio::time::timeout(self.1, add).await;
        let added = added.map_err(|_| ChangeError::Unknown("the vote was not given in time".to_owned()))?;
        added.map_err(|error| match error {
            MembershipError::NotLeader(_) => ChangeError::OnlyLeader("add voters"),
            MembershipError::InProgress => ChangeError::Busy,
            MembershipError::Unknown(reason) => ChangeError::Unknown(reason),
            error => ChangeError::Rejected(error.to_string()),
        })
    }

    /// Removes a member, on the leader only; [`ClusterKit::remove_node`] does it from anywhere.
    ///
    /// # Errors
    ///
    /// Off the leader, and as [`ClusterKit::remove_node`].
    pub async fn remove_server(&self, id: &NodeId) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::OnlyLeader("remove servers"));
        }
        self.remove_node(id).await
    }

    /// Proposes an operation of the log by its name and data, as the entries of the log are written.
    ///
    /// # Errors
    ///
    /// When the name or the data is unknown, and as any change.
    pub async fn propose_action(&self, name: &str, data: &serde_json::Value) -> Result<Outcome, ChangeError> {
        let operation: Operation = serde_json::from_value(json!({ "operation": name, "data": data }))
            .map_err(|error| ChangeError::Rejected(format!("action `{name}`: {error}")))?;
        self.change(operation).await
    }

    /// The same node, whose changes are given up after this time; at most [`CHANGE_TIMEOUT`]. A change that
    /// is dropped while it waits may still be made.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(self.0.clone(), timeout.min(CHANGE_TIMEOUT))
    }
}
