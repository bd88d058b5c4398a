//! Changes: made by the leader, whoever is asked, and answered once they are applied there.
//!
//! A change is tried again only while it has certainly not been made; one whose outcome is not known says so
//! ([`ChangeError::Unknown`]). Its deadline is [`CHANGE_TIMEOUT`] or the handle's own
//! ([`ClusterKit::with_timeout`]); a handle that is dropped while it waits may leave its change made.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::{CHANGE_TIMEOUT, ClusterKit, RETRY_PAUSE, watcher};
use crate::{
    cluster::{
        bytes64::Base64Bytes,
        changes::RebalancePlan,
        client::ClientError,
        command::{Command, LeaveReason, Operation, Outcome, Refusal, RemoveNode, SetPartitions},
        duties::can_spare,
        error::ChangeError,
        machine::decode,
        name::{NodeId, check_key},
        node::Node,
        state::MAX_VALUE_BYTES,
    },
    raft::node::WriteError,
};

impl ClusterKit {
    /// Sets one value; the last writer wins.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use queuebench_system::cluster::ClusterKit;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let kit = ClusterKit::builder("node-1", "127.0.0.1:0").raft_addr("127.0.0.1:0").data_dir(directory.path());
    /// # let kit = kit.replication_factor(1).start().await.unwrap();
    /// # kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
    /// kit.set_custom_data("feature_flags", r#"{"dark_mode":true}"#).await.unwrap();
    /// // On another node, this would show what was acknowledged before:
    /// kit.catch_up().await.unwrap();
    /// assert_eq!(kit.custom_data("feature_flags").unwrap(), r#"{"dark_mode":true}"#);
    /// assert_eq!(kit.custom_data_keys(), ["feature_flags"]);
    /// # kit.stop().await;
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// When the key or the value cannot be taken, or the leader does not answer.
    pub async fn set_custom_data(&self, key: &str, value: impl Into<Bytes>) -> Result<(), ChangeError> {
        let value = Base64Bytes(value.into());
        // What would be refused anyway is not sent across the cluster first.
        check_key("key", key).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if value.0.len() > MAX_VALUE_BYTES {
            return Err(Refusal::ValueTooLarge(value.0.len()).into());
        }
        self.change(Operation::SetCustomData { key: key.to_owned(), value }).await.map(drop)
    }

    /// Removes one value; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// As [`ClusterKit::set_custom_data`].
    pub async fn delete_custom_data(&self, key: &str) -> Result<(), ChangeError> {
        self.change(Operation::DeleteCustomData(key.to_owned())).await.map(drop)
    }

    /// Assigns all partitions anew, for the members there are; with a plan, only if nothing changed since.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use queuebench_system::cluster::ClusterKit;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let kit = ClusterKit::builder("node-1", "127.0.0.1:0").raft_addr("127.0.0.1:0").data_dir(directory.path());
    /// # let kit = kit.replication_factor(1).start().await.unwrap();
    /// # kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
    /// let plan = kit.plan_rebalance().unwrap();
    /// println!("{} partitions change, {} copies are made", plan.changes.len(), plan.copies);
    /// kit.rebalance(Some(&plan)).await.unwrap();
    /// # kit.stop().await;
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As any change.
    pub async fn rebalance(&self, plan: Option<&RebalancePlan>) -> Result<Outcome, ChangeError> {
        let if_topology_version = plan.map(|plan| plan.topology_version);
        self.change(Operation::RebalancePartitions(SetPartitions { partitions: None, if_topology_version }))
            .await
    }

    /// Assigns all partitions for the first time. The leader does so by itself once there are as many members
    /// as the replication factor.
    ///
    /// # Errors
    ///
    /// As any change; that there are too few members, or partitions already, too.
    pub async fn create_partitions(&self) -> Result<Outcome, ChangeError> {
        self.change(Operation::CreatePartitions(SetPartitions::default())).await
    }

    /// Opens a lease of this id, or renews it. Locks are held under leases.
    ///
    /// # Errors
    ///
    /// As any change.
    pub async fn grant_lease(&self, lease: &str, owner: &str, ttl: Duration) -> Result<Outcome, ChangeError> {
        let (lease, owner) = (lease.to_owned(), owner.to_owned());
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.change(Operation::GrantLease { lease, owner, ttl_ms }).await
    }

    /// Lets a lease live for its full time from now.
    ///
    /// # Errors
    ///
    /// As any change; that it has ended, too.
    pub async fn keep_lease(&self, lease: &str) -> Result<Outcome, ChangeError> {
        self.change(Operation::KeepLease(lease.to_owned())).await
    }

    /// Ends a lease and frees its locks.
    ///
    /// # Errors
    ///
    /// As any change.
    pub async fn revoke_lease(&self, lease: &str) -> Result<(), ChangeError> {
        self.change(Operation::RevokeLease(lease.to_owned())).await.map(drop)
    }

    /// Takes a lock under a lease, and answers its fencing token.
    ///
    /// A lock does not promise that its holder is alone at work: a holder that is paused does not notice
    /// that its lease has ended. Hand the token to whatever the lock protects, and let it refuse smaller ones.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use queuebench_system::cluster::ClusterKit;
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let kit = ClusterKit::builder("node-1", "127.0.0.1:0").raft_addr("127.0.0.1:0").data_dir(directory.path());
    /// # let kit = kit.replication_factor(1).start().await.unwrap();
    /// # kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
    /// kit.grant_lease("worker-7", "the nightly job", Duration::from_secs(30)).await.unwrap();
    /// let token = kit.acquire_lock("reports/nightly", "worker-7").await.unwrap();
    /// // … write under the token; call `keep_lease` while it takes long …
    /// kit.revoke_lease("worker-7").await.unwrap();
    /// kit.grant_lease("worker-8", "its successor", Duration::from_secs(30)).await.unwrap();
    /// assert!(kit.acquire_lock("reports/nightly", "worker-8").await.unwrap() > token);
    /// # kit.stop().await;
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As any change; that somebody else holds it, too.
    pub async fn acquire_lock(&self, lock: &str, lease: &str) -> Result<u64, ChangeError> {
        let (lock, lease) = (lock.to_owned(), lease.to_owned());
        match self.change(Operation::AcquireLock { lock, lease }).await? {
            Outcome::Lock { token } => Ok(token),
            other => Err(ChangeError::Unknown(format!("unexpected answer {other:?}"))),
        }
    }

    /// Gives a lock back.
    ///
    /// # Errors
    ///
    /// As any change; that it is not held, too.
    pub async fn release_lock(&self, lock: &str, lease: &str) -> Result<(), ChangeError> {
        let (lock, lease) = (lock.to_owned(), lease.to_owned());
        self.change(Operation::ReleaseLock { lock, lease }).await.map(drop)
    }

    /// Removes a member.
    ///
    /// # Errors
    ///
    /// As any change; that no majority would be left, too.
    pub async fn remove_node(&self, id: &NodeId) -> Result<(), ChangeError> {
        let reason = LeaveReason::RemovedByAdmin;
        self.remove(RemoveNode { id: id.clone(), reason, incarnation: None }).await
    }

    pub(super) async fn remove(&self, remove: RemoveNode) -> Result<(), ChangeError> {
        self.change(Operation::RemoveNode(remove)).await.map(drop)
    }

    /// Makes a change, wherever the leader is.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; only [`ChangeError::Unknown`] leaves it open whether it was made.
    pub async fn change(&self, operation: Operation) -> Result<Outcome, ChangeError> {
        let deadline = Instant::now() + self.1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let tried = match self.leader() {
                _ if self.0.stop.is_cancelled() => return Err(ChangeError::Stopped),
                _ if self.is_leader() => self.change_here_within(operation.clone(), left).await,
                Some(leader) if leader.id != *self.node_id() => self.forward(&leader, &operation, left).await,
                _ => Err(ChangeError::NoLeader),
            };
            match tried {
                Err(ChangeError::NoLeader) if Instant::now() < deadline => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                tried => return tried,
            }
        }
    }

    async fn forward(
        &self,
        leader: &Node,
        operation: &Operation,
        left: Duration,
    ) -> Result<Outcome, ChangeError> {
        let asked = self.0.client.ask(&leader.http_addr(), "/internal/change", operation, left).await;
        let answer: Result<Outcome, Refusal> = asked.map_err(|error| match error {
            ClientError::Status { status, text, .. } if status.is_client_error() => {
                ChangeError::Rejected(text)
            }
            error if error.harmless() => ChangeError::NoLeader,
            error => ChangeError::Unknown(error.to_string()),
        })?;
        Ok(answer?)
    }

    /// Makes a change as the leader.
    pub(in crate::cluster) async fn change_here(&self, operation: Operation) -> Result<Outcome, ChangeError> {
        self.change_here_within(operation, CHANGE_TIMEOUT).await
    }

    async fn change_here_within(&self, operation: Operation, left: Duration) -> Result<Outcome, ChangeError> {
        let change = tokio::time::timeout(left, self.propose(operation)).await;
        change.unwrap_or_else(|_| Err(ChangeError::Unknown(format!("not applied within {left:?}"))))
    }

    async fn propose(&self, operation: Operation) -> Result<Outcome, ChangeError> {
        if let Operation::RemoveNode(remove) = &operation
            && self.check_spare(&remove.id).is_err()
        {
            // Whoever has not been asked yet counts as silent: ask everybody now, then decide.
            watcher::round(self, self.0.settings.options.health.timeout).await;
            self.check_spare(&remove.id)?;
        }
        let command = Command::new(Timestamp::now(), operation);
        let bytes = serde_json::to_vec(&command).map_err(|error| ChangeError::Rejected(error.to_string()))?;
        let answer = self.0.raft.write(bytes.into()).await.map_err(|error| match error {
            WriteError::NotLeader(_) => ChangeError::NoLeader,
            WriteError::Busy => ChangeError::Busy,
            WriteError::Unknown(reason) => ChangeError::Unknown(reason),
            WriteError::Stopped(_) => ChangeError::Stopped,
        })?;
        Ok(decode(&answer).map_err(|error| ChangeError::Unknown(error.to_string()))??)
    }

    fn check_spare(&self, id: &NodeId) -> Result<(), ChangeError> {
        let vote = self.read(|state| state.members().get(id).map(|record| record.member.raft_id));
        let Some(vote) = vote else { return Err(Refusal::UnknownNode(id.clone()).into()) };
        let (voters, answering) = (self.0.voters(), self.0.answering());
        let spare = !voters.contains(&vote) || can_spare(vote, &voters, &answering);
        spare.then_some(()).ok_or_else(|| ChangeError::Majority(id.clone()))
    }
}
