//! A running node: [`ClusterKit`].
//!
//! Questions ([`query`]) are answered from what this node has applied, without waiting; changes ([`change`])
//! go to the leader, wherever they are asked for, and are answered once they are applied there. Clones share
//! the node. Every change has a deadline of [`CHANGE_TIMEOUT`]; one whose outcome is not known says so and is
//! not repeated. Hooks that are given to the [`builder`](ClusterKit::builder) are told of everything from the
//! start on; what was applied before the start is not told again.

pub mod builder;
mod callbacks;
pub mod change;
pub mod consensus;
mod driver;
mod join;
pub mod query;
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

pub(super) use join::{JoinAnswer, JoinRequest};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
pub(super) use watcher::Watch;

use super::{
    client::PeerClient,
    command::{LeaveReason, RemoveNode},
    error::{ChangeError, StartError},
    hooks::{EventStream, HookStatistics, Hooks},
    http,
    machine::ClusterMachine,
    name::NodeId,
    options::{Options, Settings},
    tls::{SecureListener, Tls},
};
use crate::raft::{
    identity::Membership,
    network::dial::Dial,
    node::{Node as RaftNode, NodeConfig},
};

/// How long a change may take.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A node of a cluster.
///
/// ```
/// use queuebench_system::cluster::ClusterKit;
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// let kit = ClusterKit::builder("node-1", "127.0.0.1:0")
///     .raft_addr("127.0.0.1:0")
///     .data_dir(directory.path())
///     .replication_factor(1)
///     .start()
///     .await
///     .unwrap();
/// kit.wait_for_partitions(std::time::Duration::from_secs(20)).await.unwrap();
/// let nodes = kit.nodes_for_key("user:1").unwrap();
/// assert_eq!(nodes[0].id.as_str(), "node-1");
/// kit.set_custom_data("flags", "{}").await.unwrap();
/// assert_eq!(kit.custom_data("flags").unwrap(), "{}");
/// kit.stop().await;
/// # });
/// ```
#[derive(Clone)]
pub struct ClusterKit(pub(super) Arc<Inner>, Duration);

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
    /// The leader would not hear this node: it may have been removed without being told.
    pub(super) doubted: AtomicBool,
    pub(super) watch: Mutex<Watch>,
    pub(super) started: Instant,
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    /// What the exported file shows: versions of topology and custom data. Locked while one is written.
    exported: Arc<Mutex<Option<(u64, u64)>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ClusterKit {
    /// Starts a node: it listens, reads back what it has, and goes on to found, join or rejoin its cluster
    /// in the background. [`ClusterKit::builder`] does the same with hooks from the first event on.
    ///
    /// # Errors
    ///
    /// When an option is wrong, a port or the data directory cannot be had, or Raft does not start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::launch(options, Vec::new()).await
    }

    async fn launch(options: Options, hooks: Vec<Arc<dyn Hooks>>) -> Result<Self, StartError> {
        let mut settings = options.check()?;
        let tls = settings.options.tls.as_ref().map(Tls::load).transpose()?;
        let directory = settings.options.data_dir.clone();
        std::fs::create_dir_all(&directory).map_err(StartError::DataDirectory)?;
        let http_listener = bind("HTTP server", &settings.http_listen).await?;
        let raft_listener = bind("Raft", &settings.raft_listen).await?;
        settings.learn_ports(&http_listener, &raft_listener);
        let url = settings.raft_url(&settings.raft_addr);
        let secret = settings.options.shared_secret.clone();
        let client = PeerClient::new(secret.clone(), tls.as_ref().map(|tls| tls.client.clone()));
        let membership = if join::begins_a_cluster(&settings, &client).await {
            Membership::Founder(vec![url.clone()])
        } else {
            Membership::Joiner
        };
        let machine = Arc::new(ClusterMachine::default());
        let config = NodeConfig {
            snapshot_entries: 8_192,
            segment_bytes: 4 << 20,
            dial: Dial::new(tls.as_ref().map(|tls| tls.client.clone()), secret.as_deref()),
            ..NodeConfig::new(settings.node.id.as_str(), &url, membership, directory.join("raft"))
        };
        let raft = RaftNode::start(config, machine.clone()).await?;
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        let inner = Arc::new(Inner {
            client,
            incarnation: uuid::Uuid::new_v4().as_u64_pair().0 >> 1,
            joining: Mutex::default(),
            joined: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            watch: Mutex::new(Watch::default()),
            started: Instant::now(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            exported: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            settings,
            machine,
            raft,
        });
        inner.read_back().await?;
        let kit = Self(inner, CHANGE_TIMEOUT);
        hooks.into_iter().for_each(|hooks| kit.add_hooks(hooks));
        kit.0.machine.go_live();
        let stop = || kit.0.stop.clone();
        kit.spawn(http::serve_raft(
            kit.clone(),
            SecureListener::new(raft_listener, acceptor.clone()),
            stop(),
        ));
        kit.spawn(http::serve(kit.clone(), SecureListener::new(http_listener, acceptor), stop()));
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

    /// Stops this node within ten seconds, and writes the exported file a last time, without leaving the cluster. Stopping twice is fine.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.raft.shutdown(STOP_TIMEOUT).await;
        // A hook that does not return is not waited for.
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.0.tasks.wait()).await;
        driver::write_export(self).await;
    }

    /// Returns once this node has failed for good, with the reason: its disk gave up, most likely. Nothing
    /// acknowledged is lost; the process should end and be started again.
    pub async fn failed(&self) -> String {
        let mut fatal = self.0.raft.fatal();
        let reason = fatal.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "this node has stopped".to_owned())
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
