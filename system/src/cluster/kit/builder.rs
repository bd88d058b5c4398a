//! Setting up a node step by step.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::ClusterKit;
use crate::cluster::{
    command::ClusterConfig, error::StartError, health::HealthSettings, hooks::Hooks, options::Options,
    tls::TlsOptions,
};

/// A node that is being set up: [`ClusterKit::builder`]. What is not set has the defaults of [`Options`];
/// everything is checked together by [`Builder::start`].
///
/// ```
/// use std::{sync::mpsc, time::Duration};
/// use queuebench_system::cluster::{ClusterKit, health::HealthSettings};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// let (told, joined) = mpsc::channel();
/// let kit = ClusterKit::builder("node-1", "127.0.0.1:0")
///     .raft_addr("127.0.0.1:0")
///     .data_dir(directory.path())
///     .partitions(64)
///     .replication_factor(1)
///     .service("kv", ":9080")
///     .health_check(HealthSettings { interval: Duration::from_secs(1), ..HealthSettings::default() })
///     .on_node_join(move |join| told.send(join.clone()).unwrap_or_default())
///     .start()
///     .await
///     .unwrap();
/// kit.wait_for_partitions(Duration::from_secs(20)).await.unwrap();
/// let first = tokio::task::spawn_blocking(move || joined.recv().unwrap()).await.unwrap();
/// assert!(first.is_bootstrap && first.node.services["kv"] == ":9080");
/// kit.stop().await;
/// # });
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    options: Options,
    hooks: Vec<Arc<dyn Hooks>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).field("hooks", &self.hooks.len()).finish()
    }
}

impl From<Options> for Builder {
    fn from(options: Options) -> Self {
        Self { options, hooks: Vec::new() }
    }
}

impl ClusterKit {
    /// Sets up a node with this id and HTTP address (`:8080` or `host:8080`).
    pub fn builder(node_id: impl Into<String>, http_addr: impl Into<String>) -> Builder {
        Options::new(node_id, http_addr).into()
    }
}

impl Builder {
    fn with(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }

    /// A name for people; made from the id otherwise.
    pub fn node_name(self, name: impl Into<String>) -> Self {
        self.with(|options| options.node_name = name.into())
    }

    /// Where Raft listens; made from the HTTP address otherwise.
    pub fn raft_addr(self, address: impl Into<String>) -> Self {
        self.with(|options| options.raft_addr = address.into())
    }

    /// Where others reach this node's HTTP, if not where it listens.
    pub fn advertise_addr(self, address: impl Into<String>) -> Self {
        self.with(|options| options.advertise_addr = address.into())
    }

    /// Where others reach this node's Raft, if not where it listens.
    pub fn advertise_raft_addr(self, address: impl Into<String>) -> Self {
        self.with(|options| options.advertise_raft_addr = address.into())
    }

    /// Where everything is kept.
    pub fn data_dir(self, directory: impl Into<PathBuf>) -> Self {
        self.with(|options| options.data_dir = directory.into())
    }

    /// Name of the cluster.
    pub fn cluster_name(self, name: impl Into<String>) -> Self {
        self.with(|options| options.cluster_name = name.into())
    }

    /// Partitions of a new cluster.
    pub fn partitions(self, count: u32) -> Self {
        self.with(|options| options.partition_count = count)
    }

    /// Nodes in charge of each partition of a new cluster, the primary included.
    pub fn replication_factor(self, nodes: usize) -> Self {
        self.with(|options| options.replication_factor = nodes)
    }

    /// Name and numbers of a new cluster at once.
    pub fn cluster(self, config: ClusterConfig) -> Self {
        let ClusterConfig { cluster_name, partition_count, replication_factor } = config;
        self.cluster_name(cluster_name).partitions(partition_count).replication_factor(replication_factor)
    }

    /// The HTTP address of a known member, without a scheme; may be given several times. A node that knows
    /// nobody begins a cluster.
    pub fn join(self, address: impl Into<String>) -> Self {
        self.with(|options| options.join_addrs.push(address.into()))
    }

    /// Begins a cluster unless a known member has one already.
    pub fn bootstrap(self) -> Self {
        self.with(|options| options.bootstrap = true)
    }

    /// Removes members that do not answer, as watched by these rules.
    pub fn health_check(self, settings: HealthSettings) -> Self {
        self.with(|options| {
            options.health = settings;
            options.remove_silent = true;
        })
    }

    /// Publishes a further address of the application.
    pub fn service(self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.with(|options| drop(options.services.insert(name.into(), address.into())))
    }

    /// How long it must be quiet before one rebalance follows all joins and leaves.
    pub fn rebalance_delay(self, delay: Duration) -> Self {
        self.with(|options| options.rebalance_delay = delay)
    }

    /// Asks for this on joining, changing anything, custom data and between members.
    pub fn shared_secret(self, secret: impl Into<String>) -> Self {
        self.with(|options| options.shared_secret = Some(secret.into()))
    }

    /// Encrypts HTTP and Raft, and may know members by their certificates.
    pub fn tls(self, tls: TlsOptions) -> Self {
        self.with(|options| options.tls = Some(tls))
    }

    /// Asks for secret or certificate on looking, too; only the probes stay open.
    pub fn protect_reads(self) -> Self {
        self.with(|options| options.protect_reads = true)
    }

    /// Calls these hooks from the start on, so that not even the first event is missed.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks.push(hooks);
        self
    }

    /// Starts the node; see [`ClusterKit::start`].
    ///
    /// # Errors
    ///
    /// As [`ClusterKit::start`].
    pub async fn start(self) -> Result<ClusterKit, StartError> {
        ClusterKit::launch(self.options, self.hooks).await
    }
}
