//! What is measured: which subjects there are, how one is described to a trial's process, and the null
//! subject.

use std::fmt;
use std::str::FromStr;

use queuebench_system::queue::{Durability, QueueError};
use serde::{Deserialize, Serialize};

pub mod null;
mod open;
pub mod pipeline;
mod settings;
mod topic;

pub use open::{Task, with_queues};
pub use settings::{Addresses, SubjectConfig, configure};

/// A kind of subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The in-process queue.
    Memory,
    /// NATS JetStream.
    Nats,
    /// Apache Kafka.
    Kafka,
    /// NATS and Kafka at once.
    Composite,
    /// Answers at once: the harness's own cost.
    Null,
    /// Gateway, ingest service and processor over the in-process queue.
    PipelineMemory,
    /// The same over NATS JetStream.
    PipelineNats,
    /// The same over Apache Kafka.
    PipelineKafka,
    /// The same over NATS and Kafka at once.
    PipelineComposite,
    /// Our own key-value store, three nodes.
    Kv,
    /// etcd, three members.
    Etcd,
    /// Our own coordination cluster.
    Cluster,
}

impl Backend {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 12] = [
        Self::Memory,
        Self::Nats,
        Self::Kafka,
        Self::Composite,
        Self::Null,
        Self::PipelineMemory,
        Self::PipelineNats,
        Self::PipelineKafka,
        Self::PipelineComposite,
        Self::Kv,
        Self::Etcd,
        Self::Cluster,
    ];
    /// What `compare queues` compares unless told otherwise.
    pub const COMPARED: [Self; 4] = [Self::Memory, Self::Nats, Self::Kafka, Self::Composite];

    /// What `compare kv` compares unless told otherwise.
    pub const STORES: [Self; 2] = [Self::Kv, Self::Etcd];

    /// The word for it everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::Composite => "composite",
            Self::Null => "null",
            Self::PipelineMemory => "pipeline-memory",
            Self::PipelineNats => "pipeline-nats",
            Self::PipelineKafka => "pipeline-kafka",
            Self::PipelineComposite => "pipeline-composite",
            Self::Kv => "kv",
            Self::Etcd => "etcd",
            Self::Cluster => "cluster",
        }
    }

    /// Whether it runs inside the trial's process.
    pub fn is_embedded(self) -> bool {
        matches!(self, Self::Memory | Self::Null)
    }

    /// Whether it is a store, which is operated on rather than published to.
    pub fn is_store(self) -> bool {
        Self::STORES.contains(&self)
    }

    /// Whether its processes are our own, fresh for every trial.
    pub fn has_own_processes(self) -> bool {
        self == Self::Cluster || self.of_pipeline().is_some()
    }

    /// The servers that it needs.
    pub fn servers(self) -> &'static [queuebench_testcontainers::Backend] {
        use queuebench_testcontainers::Backend as Server;
        match self {
            Self::Memory | Self::Null | Self::PipelineMemory | Self::Cluster => &[],
            Self::Nats | Self::PipelineNats => &[Server::Nats],
            Self::Kafka | Self::PipelineKafka => &[Server::Kafka],
            Self::Composite | Self::PipelineComposite => &[Server::Nats, Server::Kafka],
            Self::Kv => &[Server::Kv],
            Self::Etcd => &[Server::Etcd],
        }
    }

    /// The whole pipeline over this queue; `None` for what is no queue of the pipeline.
    pub fn under_pipeline(self) -> Option<Self> {
        match self {
            Self::Memory => Some(Self::PipelineMemory),
            Self::Nats => Some(Self::PipelineNats),
            Self::Kafka => Some(Self::PipelineKafka),
            Self::Composite => Some(Self::PipelineComposite),
            _ => None,
        }
    }

    /// The queue that this pipeline runs over; `None` if it is no pipeline.
    pub fn of_pipeline(self) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.under_pipeline() == Some(self))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|b| b.name() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|b| b.name()).collect();
            format!("`{word}` is no backend; there are {}", known.join(", "))
        })
    }
}

/// A subject of a run: a backend under a name, with the settings that differ from its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectRequest {
    /// Unique in the run.
    pub name: String,
    /// What it is.
    pub backend: Backend,
    /// What its acknowledgement shall survive.
    pub durability: Option<Durability>,
    /// From the profile.
    pub overrides: toml::Table,
}

impl SubjectRequest {
    /// A backend under its own name, with what the profile sets for that name.
    ///
    /// # Errors
    /// When the profile's table names a backend that does not exist.
    pub fn new(
        name: &str,
        profile: &crate::profile::Profile,
        durability: Option<Durability>,
    ) -> Result<Self, String> {
        let mut overrides = profile.subjects.get(name).cloned().unwrap_or_default();
        let backend = match overrides.remove("backend") {
            Some(toml::Value::String(word)) => word.parse()?,
            Some(other) => return Err(format!("`subjects.{name}.backend` must be a word, not {other}")),
            None => name.parse().map_err(|e| format!("{e}, or give `subjects.{name}` a `backend`"))?,
        };
        Ok(Self { name: name.to_owned(), backend, durability, overrides })
    }
}

/// Why a subject's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key is unknown or a value impossible.
    #[error("`subjects.{subject}`: {reason}")]
    Override {
        /// Whose table.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// The queue itself refuses them.
    #[error("subject `{subject}`: {source}")]
    Queue {
        /// Whose.
        subject: String,
        /// What it said.
        source: QueueError,
    },
}
