//! What a caller can choose when a server is started.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use queuebench_system::queue::Durability;

use crate::backend::{Backend, Via};
use crate::external::External;

/// How to start one server. `Default` starts it by the first way that is open, with its data and its log in
/// a temporary directory; [`StartOptions::from_env`] adds what the user's environment says.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Which ways are allowed.
    pub via: Via,
    /// A server that is already there; with [`Via::Auto`] it is used and nothing is started.
    pub external: Option<External>,
    /// What an acknowledgement has to survive. [`Durability::PowerLoss`] makes the server flush before it
    /// answers; the two others are the server's defaults (memory storage is a stream's own setting).
    pub durability: Durability,
    /// Names the run in container labels and in the records that a later sweep reads.
    pub run_label: String,
    /// Names the server, in its log's file name among others; the backend's name unless given.
    pub name: Option<String>,
    /// Where `<name>.log` is written (appended to); with the data unless given, and removed with it.
    pub log_dir: Option<PathBuf>,
    /// Where the server keeps its data; kept after [`stop`](crate::Running::stop). A temporary directory,
    /// removed with the server, unless given.
    pub data_dir: Option<PathBuf>,
    /// Where built server programs and the records of running ones are kept.
    pub cache_dir: PathBuf,
    /// The clients' port; a free one unless given.
    pub port: Option<u16>,
    /// The container image; the backend's official one unless given. One that is given must be there.
    pub image: Option<String>,
    /// How a container is reached.
    pub container_network: ContainerNetwork,
    /// The server's program, instead of the one from `PATH` or the cache.
    pub program: Option<PathBuf>,
    /// What comes before the server's own arguments, where `program` is more than the server. Key-value store
    /// only.
    pub program_args: Vec<String>,
    /// From the start of the server until it is ready.
    pub time_limit: Duration,
    /// For what comes before: a build or a pull.
    pub prepare_limit: Duration,
    /// Told what takes long ("building nats-server 2.15.2 with go, once").
    pub progress: Progress,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            via: Via::Auto,
            external: None,
            durability: Durability::ProcessCrash,
            run_label: format!("pid-{}", std::process::id()),
            name: None,
            log_dir: None,
            data_dir: None,
            cache_dir: default_cache_dir(),
            port: None,
            image: None,
            container_network: ContainerNetwork::Auto,
            program: None,
            program_args: Vec::new(),
            time_limit: Duration::from_secs(60),
            prepare_limit: Duration::from_secs(600),
            progress: Progress::default(),
        }
    }
}

impl StartOptions {
    /// The defaults, and what the environment says of `backend`: an address and credentials
    /// ([`External::from_env`]), an image (`QUEUEBENCH_NATS_IMAGE`, `QUEUEBENCH_KAFKA_IMAGE`), a cache
    /// (`XDG_CACHE_HOME`).
    pub fn from_env(backend: Backend) -> Self {
        Self {
            external: External::from_env(backend),
            image: match backend {
                Backend::Nats => env::var("QUEUEBENCH_NATS_IMAGE").ok(),
                Backend::Kafka => env::var("QUEUEBENCH_KAFKA_IMAGE").ok(),
                Backend::Etcd | Backend::Kv => None,
            }
            .filter(|image| !image.is_empty()),
            ..Self::default()
        }
    }
}

/// `$XDG_CACHE_HOME/queuebench`, else `~/.cache/queuebench`, else a directory among the temporary ones.
fn default_cache_dir() -> PathBuf {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("queuebench")
}

/// How a container is reached from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerNetwork {
    /// [`Self::Host`] where the engine shares this machine's network, else [`Self::Published`].
    #[default]
    Auto,
    /// The machine's own network: no proxy and no bridge in the path that is measured, and no port that
    /// accepts connections before the server does.
    Host,
    /// A port published on 127.0.0.1: works everywhere, and costs a copy through the engine's proxy.
    Published,
}

/// A listener for what takes long. Called from the task that starts the server; must not block.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Listener>>);

type Listener = dyn Fn(&str) + Send + Sync;

impl Progress {
    /// Calls `listener` with one sentence per step.
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn say(&self, step: &str) {
        tracing::info!(target: "queuebench::start", "{step}");
        if let Some(listener) = &self.0 {
            listener(step);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Progress(listener)" } else { "Progress(none)" })
    }
}
