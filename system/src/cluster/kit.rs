//! A running node: [`ClusterKit`].
//!
//! Questions are answered from what this node has applied, without waiting; changes go to the leader,
//! wherever they are asked for, and are answered once they are applied there. Clones share the node. Every
//! change has a deadline of [`CHANGE_TIMEOUT`]; one whose outcome is not known says so and is not repeated.

mod driver;
mod join;
mod watcher;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
pub(super) use join::{JoinAnswer, JoinRequest};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
pub(super) use watcher::Watch;

use super::{
    bytes64::Base64Bytes,
    changes::RebalancePlan,
    client::{ClientError, PeerClient},
    command::{Command, LeaveReason, Operation, Outcome, Refusal, RemoveNode, SetPartitions},
    duties::can_spare,
    error::{ChangeError, QueryError, StartError},
    hooks::{EventStream, HookStatistics, Hooks},
    http,
    machine::{ClusterMachine, decode},
    name::NodeId,
    node::Node,
    options::{Options, Settings},
    state::State,
    topology::{Topology, TopologyRef},
};
use crate::raft::{
    identity::Membership,
    node::{Node as RaftNode, NodeConfig, Role, WriteError},
};

/// How long a change may take.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A node of a cluster.
///
/// ```
/// use queuebench_system::cluster::{ClusterKit, Options};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// let mut options = Options::new("node-1", "127.0.0.1:0");
/// options.raft_addr = "127.0.0.1:0".to_owned();
/// options.data_dir = directory.path().to_owned();
/// options.replication_factor = 1;
/// let kit = ClusterKit::start(options).await.unwrap();
/// kit.wait_for_partitions(std::time::Duration::from_secs(20)).await.unwrap();
/// let nodes = kit.nodes_for_key("user:1").unwrap();
/// assert_eq!(nodes[0].id.as_str(), "node-1");
/// kit.set_custom_data("flags", "{}").await.unwrap();
/// assert_eq!(kit.custom_data("flags").unwrap(), "{}");
/// kit.stop().await;
/// # });
/// ```
#[derive(Clone)]
pub struct ClusterKit(pub(super) Arc<Inner>);

impl fmt::Debug for ClusterKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKit").field("node", &self.0.settings.node.id).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) machine: Arc<ClusterMachine>,
    pub(super) raft: Arc<RaftNode<ClusterMachine>>,
    pub(super) client: PeerClient,
    pub(super) incarnation: u64,
    pub(super) joining: Mutex<BTreeSet<u64>>,
    pub(super) joined: AtomicBool,
    pub(super) watch: Mutex<Watch>,
    pub(super) started: Instant,
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ClusterKit {
    /// Starts a node: it listens, reads back what it has, and goes on to found, join or rejoin its cluster
    /// in the background.
    ///
    /// # Errors
    ///
    /// When an option is wrong, a port or the data directory cannot be had, or Raft does not start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let mut settings = options.check()?;
        let directory = settings.options.data_dir.clone();
        std::fs::create_dir_all(&directory).map_err(StartError::DataDirectory)?;
        let http_listener = bind("HTTP server", &settings.http_listen).await?;
        let raft_listener = bind("Raft", &settings.raft_listen).await?;
        settings.learn_ports(&http_listener, &raft_listener);
        let url = format!("http://{}", settings.raft_addr);
        let membership = if settings.options.join_addrs.is_empty() {
            Membership::Founder(vec![url.clone()])
        } else {
            Membership::Joiner
        };
        let machine = Arc::new(ClusterMachine::default());
        let config = NodeConfig {
            snapshot_entries: 8_192,
            segment_bytes: 4 << 20,
            ..NodeConfig::new(settings.node.id.as_str(), &url, membership, directory.join("raft"))
        };
        let raft = RaftNode::start(config, machine.clone()).await?;
        let inner = Arc::new(Inner {
            client: PeerClient::new(settings.options.shared_secret.clone()),
            incarnation: uuid::Uuid::new_v4().as_u64_pair().0 >> 1,
            joining: Mutex::default(),
            joined: AtomicBool::new(false),
            watch: Mutex::new(Watch::default()),
            started: Instant::now(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            settings,
            machine,
            raft,
        });
        inner.read_back().await?;
        inner.machine.go_live();
        let kit = Self(inner);
        kit.spawn(http::serve_raft(kit.clone(), raft_listener, kit.0.stop.clone()));
        kit.spawn(http::serve(kit.clone(), http_listener, kit.0.stop.clone()));
        kit.spawn(driver::run(kit.clone()));
        kit.spawn(driver::export(kit.clone()));
        kit.spawn(join::run(kit.clone()));
        kit.spawn(watcher::run(kit.clone()));
        Ok(kit)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Stops this node within ten seconds, without leaving the cluster. Stopping twice is fine.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.raft.shutdown(STOP_TIMEOUT).await;
        // A hook that does not return is not waited for.
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.0.tasks.wait()).await;
    }

    /// Leaves the cluster and stops. The node goes on voting until its vote has been taken over, so that a
    /// small cluster can still decide.
    ///
    /// # Errors
    ///
    /// When the cluster does not let it go; it then goes on running.
    pub async fn leave(&self) -> Result<(), ChangeError> {
        let id = self.node_id().clone();
        let remove = RemoveNode { id, reason: LeaveReason::GracefulShutdown, incarnation: None };
        self.remove(remove).await?;
        let mine = self.0.raft.identity().node();
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        while Instant::now() < deadline {
            let status = self.0.raft.status();
            let votes = status.members.iter().any(|member| member.node == mine && member.voter);
            if !votes || status.leader.is_none() {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.stop().await;
        Ok(())
    }

    /// Looks at everything the cluster agrees on; be quick, applying waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.0.machine.read(look)
    }

    /// The current picture for a short look: the way to look keys up in a hot path.
    #[must_use]
    pub fn topology(&self) -> TopologyRef {
        self.0.machine.topology().read()
    }

    /// The current picture to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Topology> {
        self.0.machine.topology().snapshot()
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

    /// Whether this node is the primary of a key.
    #[must_use]
    pub fn is_primary_for_key(&self, key: impl AsRef<[u8]>) -> bool {
        let topology = self.topology();
        let primary = topology.locate(key.as_ref()).and_then(|located| located.primary().cloned());
        primary.is_some_and(|node| node.id == *self.node_id())
    }

    /// Whether this node is in charge of a key, as primary or replica.
    #[must_use]
    pub fn is_responsible_for(&self, key: impl AsRef<[u8]>) -> bool {
        self.nodes_for_key(key).is_ok_and(|nodes| nodes.iter().any(|node| node.id == *self.node_id()))
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

    /// Sets one value; the last writer wins.
    ///
    /// # Errors
    ///
    /// When the key or the value cannot be taken, or the leader does not answer.
    pub async fn set_custom_data(&self, key: &str, value: impl Into<Bytes>) -> Result<(), ChangeError> {
        let value = Base64Bytes(value.into());
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

    /// What a rebalance would do.
    ///
    /// # Errors
    ///
    /// Before there are partitions.
    pub fn plan_rebalance(&self) -> Result<RebalancePlan, Refusal> {
        self.read(State::plan_rebalance)
    }

    /// Assigns all partitions anew, for the members there are; with a plan, only if nothing changed since.
    ///
    /// # Errors
    ///
    /// As any change.
    pub async fn rebalance(&self, plan: Option<&RebalancePlan>) -> Result<Outcome, ChangeError> {
        let if_topology_version = plan.map(|plan| plan.topology_version);
        self.change(Operation::RebalancePartitions(SetPartitions { partitions: None, if_topology_version }))
            .await
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

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.0.machine.bus().listen()
    }

    /// Calls these hooks for everything from now on, until the node stops.
    pub fn add_hooks(&self, hooks: Arc<dyn Hooks>) {
        let drive = self.0.machine.bus().drive(hooks, self.0.stop.clone());
        self.0.tasks.spawn(drive);
    }

    /// How deliveries to hooks went so far.
    #[must_use]
    pub fn hook_statistics(&self) -> HookStatistics {
        self.0.machine.bus().statistics()
    }

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

    /// Makes a change, wherever the leader is.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; only [`ChangeError::Unknown`] leaves it open whether it was made.
    pub async fn change(&self, operation: Operation) -> Result<Outcome, ChangeError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        loop {
            let tried = match self.leader() {
                _ if self.0.stop.is_cancelled() => return Err(ChangeError::Stopped),
                _ if self.is_leader() => self.change_here(operation.clone()).await,
                Some(leader) if leader.id != *self.node_id() => self.forward(&leader, &operation).await,
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

    async fn forward(&self, leader: &Node, operation: &Operation) -> Result<Outcome, ChangeError> {
        let asked =
            self.0.client.ask(&leader.http_addr(), "/internal/change", operation, CHANGE_TIMEOUT).await;
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
    pub(super) async fn change_here(&self, operation: Operation) -> Result<Outcome, ChangeError> {
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

async fn bind(what: &'static str, address: &str) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Bind { what, address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(failed)
}

impl Settings {
    /// Puts the ports that were given for `:0` in place of it.
    fn learn_ports(&mut self, http: &TcpListener, raft: &TcpListener) {
        let learn = |address: &mut String, listener: &TcpListener| {
            if let (Some(host), Ok(bound)) = (address.strip_suffix(":0"), listener.local_addr()) {
                *address = format!("{host}:{}", bound.port());
            }
        };
        learn(&mut self.node.ip, http);
        learn(&mut self.raft_addr, raft);
    }
}

impl Inner {
    /// Waits until everything that was committed before is applied again, which hooks are not told of.
    async fn read_back(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        let Some(committed) = self.raft.status().commit_index else { return Ok(()) };
        while self.raft.applied_next() <= committed {
            if Instant::now() > deadline {
                return Err(StartError::Recovery(RECOVERY_TIMEOUT));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    pub(super) fn voters(&self) -> BTreeSet<u64> {
        let members = self.raft.status().members;
        members.iter().filter(|member| member.voter).map(|member| member.node).collect()
    }

    /// Raft ids of this node and of the members that answered it last time.
    pub(super) fn answering(&self) -> BTreeSet<u64> {
        let watch = self.watch.lock();
        self.machine.read(|state| {
            let answers = |id: &NodeId| *id == self.settings.node.id || watch.answers(id);
            let members = state.members().iter().filter(|(id, _)| answers(id));
            members.map(|(_, record)| record.member.raft_id).collect()
        })
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) fn count(&self, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
    }
}
