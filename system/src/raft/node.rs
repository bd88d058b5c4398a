//! One member of a cluster, running: log, state machine, peers and openraft together.
//!
//! A [`Node`] is generic over the [`Machine`] it replicates and serves no clients by itself. Writes and reads
//! under way are bounded; every wait has a deadline. A write whose outcome is not known says so
//! ([`WriteError::Unknown`]) and is never repeated here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use openraft::{
    ChangeMembers, Config, Raft, ServerState, SnapshotPolicy,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
    rt::WatchReceiver,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    disk::{Disk, RealDisk},
    identity::{Identity, IdentityError, Membership, founder_id},
    log::{LogConfig, LogHandle, LogStore, OpenError},
    machine::{Machine, Replica},
    network::{Network, dial::Dial, server::PeerServer, wire::Connection},
    snapshot::SnapshotStore,
    types::{Command, NodeId, Peer, Types},
};
use reads::{ReadError, ReadIndexes};

pub mod reads;
mod status;
mod watchdog;

pub use reads::ReadPolicy;
pub use status::{Member, Role, Status};

/// Writes under way at one node; more are refused.
const WRITES_MAX: usize = 10_000;
/// How long a new learner may take to catch up before a request to promote it gives up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name, unique in the cluster.
    pub name: String,
    /// Own public URL, without a trailing slash.
    pub url: String,
    /// How it gets into its cluster the first time.
    pub membership: Membership,
    /// Data directory.
    pub dir: PathBuf,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Least time without a leader before an election; the most is a third longer.
    pub election_timeout: Duration,
    /// Entries after which a snapshot is taken.
    pub snapshot_entries: u64,
    /// Pre-allocated size of a log segment.
    pub segment_bytes: u64,
    /// How peers are reached.
    pub dial: Dial,
    /// Other URLs at which some peers are reached from here, by their public ones: through a proxy, say.
    pub detours: BTreeMap<String, String>,
}

impl NodeConfig {
    /// Heartbeat 100 ms, election timeout 500 ms, a snapshot every 50,000 entries, segments of 64 MiB.
    #[must_use]
    pub fn new(name: &str, url: &str, membership: Membership, dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            url: url.trim_end_matches('/').into(),
            membership,
            dir: dir.into(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(500),
            snapshot_entries: 50_000,
            segment_bytes: 64 << 20,
            dial: Dial::default(),
            detours: BTreeMap::new(),
        }
    }

    fn raft(&self) -> Result<Config, StartError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A follower waits for the leader's lease, which is as long as the upper bound here, and then for a time
        // between the bounds: a third and two thirds make it one to four thirds of what was asked for.
        let lower = (millis(self.election_timeout) / 3).max(millis(self.heartbeat) + 1);
        let config = Config {
            cluster_name: "queuebench".into(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: lower,
            election_timeout_max: lower * 2,
            install_snapshot_timeout: 120_000,
            max_payload_entries: 4096,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            // Kept for members that were away for a short time, so that they need no snapshot.
            max_in_snapshot_log_to_keep: (self.snapshot_entries / 2).max(100),
            replication_lag_threshold: self.snapshot_entries.saturating_mul(2).max(5000),
            purge_batch_size: 256,
            enable_pre_vote: Some(true),
            // A commit may rest on the followers alone: after a power loss the leader may lack what it acknowledged,
            // and only an election finds that out.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        config.validate().map_err(|error| StartError::Config(error.to_string()))
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error("raft settings: {0}")]
    Config(String),
    /// The data directory is not usable.
    #[error("data directory: {0}")]
    Identity(#[from] IdentityError),
    /// The log does not open.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The newest snapshot does not load.
    #[error("snapshot: {0}")]
    Snapshot(std::io::Error),
    /// Raft itself failed.
    #[error("raft: {0}")]
    Raft(String),
}

/// A member that can be asked instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its number.
    pub node: NodeId,
    /// Its public URL.
    pub url: String,
}

/// Why a write was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Certainly not done: another node leads, if any.
    #[error("this node does not lead")]
    NotLeader(Option<Leader>),
    /// Certainly not done: too many writes are under way here.
    #[error("too many requests under way")]
    Busy,
    /// May or may not have been done, now or later.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// This node has stopped.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// Why a membership change was not made.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Another node leads, if any.
    #[error("this node does not lead")]
    NotLeader(Option<Leader>),
    /// One change at a time.
    #[error("another membership change is under way")]
    InProgress,
    /// There is no such member.
    #[error("there is no member '{0}'")]
    NotFound(String),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It may or may not have been made.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

type Core<M> = Raft<Types, Replica<M>>;

/// A running member.
pub struct Node<M: Machine> {
    raft: Core<M>,
    machine: Arc<M>,
    identity: Arc<Identity>,
    reads: ReadIndexes,
    peers: PeerServer<M>,
    log: parking_lot::Mutex<Option<LogHandle>>,
    applied: watch::Receiver<u64>,
    writes: Arc<Semaphore>,
    write_timeout: Duration,
    election_timeout: Duration,
    changing: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    fatal: watch::Receiver<Option<String>>,
    tasks: parking_lot::Mutex<Vec<AbortOnDropHandle<()>>>,
}

impl<M: Machine> std::fmt::Debug for Node<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<M: Machine> Node<M> {
    /// Starts a member on the file system.
    ///
    /// # Errors
    /// When the data directory is not usable, and see [`StartError`].
    pub async fn start(config: NodeConfig, machine: Arc<M>) -> Result<Arc<Self>, StartError> {
        Self::start_on(config, machine, Arc::new(RealDisk)).await
    }

    /// The same with log and snapshots on another disk, such as one that fails.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_on(
        config: NodeConfig,
        machine: Arc<M>,
        disk: Arc<dyn Disk>,
    ) -> Result<Arc<Self>, StartError> {
        let raft_config = Arc::new(config.raft()?);
        let identity = Identity::open(&config.dir, &config.name, &config.url, &config.membership)?;
        let identity = Arc::new(identity.with_detours(config.detours.clone()));
        let log_config = LogConfig {
            segment_bytes: config.segment_bytes,
            ..LogConfig::new(config.dir.join("wal"), identity.incarnation())
        };
        let (log, log_handle) = LogStore::open(disk.clone(), log_config)?;
        let snapshots = SnapshotStore::open(disk, config.dir.join("snap")).map_err(StartError::Snapshot)?;
        let (replica, applied) =
            Replica::open(machine.clone(), snapshots.clone()).map_err(StartError::Snapshot)?;
        let network = Network {
            identity: identity.clone(),
            dial: config.dial.clone(),
            progress_timeout: config.election_timeout * 4,
        };
        let raft = Core::<M>::new(identity.node(), raft_config, network.clone(), log, replica)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let stop = CancellationToken::new();
        let timeout = config.election_timeout * 2;
        let (reads, read_task) =
            reads::start(raft.clone(), network.clone(), applied.clone(), timeout, stop.child_token());
        let peers = PeerServer {
            raft: raft.clone(),
            identity: identity.clone(),
            snapshots,
            reads: reads.clone(),
            stop: stop.child_token(),
        };
        let (fatal_out, fatal) = watch::channel(None);
        let node = Arc::new(Self {
            raft,
            machine,
            identity,
            reads,
            peers,
            log: parking_lot::Mutex::new(Some(log_handle)),
            applied,
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            write_timeout: Duration::from_secs(5) + config.election_timeout * 2,
            election_timeout: config.election_timeout,
            changing: tokio::sync::Mutex::new(()),
            stop,
            fatal,
            tasks: parking_lot::Mutex::new(Vec::new()),
        });
        let watchdog = AbortOnDropHandle::new(tokio::spawn(watchdog::run(Arc::downgrade(&node), fatal_out)));
        node.tasks.lock().extend([read_task, watchdog]);
        if let Membership::Founder(urls) = &config.membership {
            node.found(urls).await?;
        }
        Ok(node)
    }

    /// Founds the cluster, unless this node already belongs to it. All founders propose the very same
    /// membership, so it does not matter who comes first.
    async fn found(&self, urls: &[String]) -> Result<(), StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        if self.raft.is_initialized().await.map_err(|e| failed(&e))? {
            return Ok(());
        }
        let members: BTreeMap<_, _> =
            urls.iter().map(|url| (founder_id(url), Peer { url: url.clone() })).collect();
        match self.raft.initialize(members).await {
            // A peer was faster: its first entries arrived meanwhile.
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The replicated state.
    pub fn machine(&self) -> &Arc<M> {
        &self.machine
    }

    /// Who this is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Tells once this node has failed and why; the process should then end.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Serves a peer's upgraded connection to its end.
    pub async fn serve_peer(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        self.peers.clone().serve(Connection::new(io)).await;
    }

    /// Replicates a command and answers what applying it answered.
    ///
    /// # Errors
    /// See [`WriteError`]; only [`WriteError::Unknown`] leaves it open whether it was done.
    pub async fn write(&self, command: Bytes) -> Result<Bytes, WriteError> {
        let Ok(_permit) = self.writes.try_acquire() else { return Err(WriteError::Busy) };
        let write = self.raft.client_write(Command(command));
        match tokio::time::timeout(self.write_timeout, write).await {
            Err(_) => Err(WriteError::Unknown("it was not committed in time".into())),
            Ok(Ok(done)) => Ok(done.data.0),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                let leader = to.leader_id.zip(to.leader_node);
                Err(WriteError::NotLeader(leader.map(|(node, peer)| Leader { node, url: peer.url })))
            }
            Ok(Err(RaftError::APIError(error))) => Err(WriteError::Unknown(error.to_string())),
            Ok(Err(RaftError::Fatal(error))) => Err(WriteError::Stopped(error.to_string())),
        }
    }

    /// Returns once the local state shows everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// When no leader confirms in time.
    pub async fn read_barrier(&self, policy: ReadPolicy) -> Result<(), ReadError> {
        self.reads.barrier(policy).await
    }

    /// Index that is applied next.
    pub fn applied_next(&self) -> u64 {
        *self.applied.borrow()
    }

    /// What this node knows about itself and its cluster.
    pub fn status(&self) -> Status {
        status::of(&self.raft.metrics().borrow_watched(), &self.identity)
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<Leader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.current_leader?;
        let url = metrics.membership_config.membership().get_node(&node)?.url.clone();
        Some(Leader { node, url })
    }

    /// Number of the member with this name, number or URL.
    pub fn find_member(&self, text: &str) -> Option<NodeId> {
        let members = self.status().members;
        members.iter().find(|m| m.name == text || m.url == text || m.node.to_string() == text).map(|m| m.node)
    }

    /// Adds a node as learner and, if asked, makes it a voter once it caught up.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn add_member(&self, node: NodeId, url: &str, voter: bool) -> Result<(), MembershipError> {
        let Ok(_one) = self.changing.try_lock() else { return Err(MembershipError::InProgress) };
        let add = self.raft.add_learner(node, Peer { url: url.into() }, voter);
        let added = tokio::time::timeout(CATCH_UP_TIMEOUT, add).await;
        changed(added)?;
        if voter {
            let add = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
            self.change(add).await?;
        }
        Ok(())
    }

    /// Removes a member; the leader may remove itself.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn remove_member(&self, node: NodeId) -> Result<(), MembershipError> {
        let Ok(_one) = self.changing.try_lock() else { return Err(MembershipError::InProgress) };
        let status = self.status();
        let Some(member) = status.members.iter().find(|member| member.node == node) else {
            return Err(MembershipError::NotFound(node.to_string()));
        };
        if member.voter {
            if status.members.iter().filter(|member| member.voter).count() == 1 {
                return Err(MembershipError::Invalid("the last voter cannot be removed".into()));
            }
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node]))).await
        } else {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await
        }
    }

    async fn change(&self, change: ChangeMembers<NodeId, Peer>) -> Result<(), MembershipError> {
        let change = self.raft.change_membership(change, false);
        changed(tokio::time::timeout(self.write_timeout, change).await)
    }

    /// Hands leadership to a voter and returns once it leads.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn transfer(&self, to: NodeId) -> Result<(), MembershipError> {
        let status = self.status();
        if status.role != Role::Leader {
            return Err(MembershipError::NotLeader(self.leader()));
        }
        if !status.members.iter().any(|member| member.node == to && member.voter) {
            return Err(MembershipError::NotFound(to.to_string()));
        }
        if to == status.node {
            return Ok(());
        }
        let unknown = |error: &dyn std::fmt::Display| MembershipError::Unknown(error.to_string());
        self.raft.trigger().transfer_leader(to).await.map_err(|e| unknown(&e))?;
        let wait = self.raft.wait(Some(self.election_timeout * 4));
        wait.current_leader(to, "leadership transfer").await.map_err(|e| unknown(&e))?;
        Ok(())
    }

    /// Takes a snapshot now.
    pub async fn snapshot(&self) {
        // Only a node that has stopped refuses.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    /// Stops taking work, ends all tasks and closes the log, within `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        self.stop.cancel();
        let core = tokio::time::timeout(deadline, self.raft.shutdown()).await;
        self.tasks.lock().clear();
        let handle = self.log.lock().take();
        if let Some(handle) = handle {
            let closed = tokio::time::timeout(deadline, tokio::task::spawn_blocking(|| handle.close())).await;
            // Connections of peers may outlive this; they write nothing any more.
            if core.is_ok() && closed.is_ok() {
                self.identity.release();
            }
        }
    }
}

type ChangeResult<T> = Result<T, RaftError<Types, ClientWriteError<Types>>>;

fn changed<T>(result: Result<ChangeResult<T>, tokio::time::error::Elapsed>) -> Result<(), MembershipError> {
    match result {
        Err(_) => Err(MembershipError::Unknown("the change was not committed in time".into())),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
            let leader = to.leader_id.zip(to.leader_node);
            Err(MembershipError::NotLeader(leader.map(|(node, peer)| Leader { node, url: peer.url })))
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => Err(match error {
            ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
            ChangeMembershipError::LearnerNotFound(error) => MembershipError::NotFound(error.to_string()),
            error => MembershipError::Invalid(error.to_string()),
        }),
        Ok(Err(error)) => Err(MembershipError::Unknown(error.to_string())),
    }
}
