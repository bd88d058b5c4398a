//! Which servers can be started, and by which ways.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A server that this crate knows how to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Backend {
    /// nats-server with JetStream, one node.
    Nats,
    /// Apache Kafka in KRaft mode, one node that is broker and controller.
    Kafka,
    /// etcd: one member, or several with [`start_cluster`](crate::start_cluster).
    Etcd,
    /// Our own key-value store: `kvnode` processes, one or several as etcd's.
    Kv,
}

impl Backend {
    /// The queues, in the order in which they are listed to a user.
    pub const QUEUES: [Self; 2] = [Self::Nats, Self::Kafka];
    /// Every backend, in the order in which they are listed to a user.
    pub const ALL: [Self; 4] = [Self::Nats, Self::Kafka, Self::Etcd, Self::Kv];

    /// The word for it in flags, records and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::Etcd => "etcd",
            Self::Kv => "kv",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "nats" => Ok(Self::Nats),
            "kafka" => Ok(Self::Kafka),
            "etcd" => Ok(Self::Etcd),
            "kv" => Ok(Self::Kv),
            _ => Err(UnknownWord { word: word.to_owned(), expected: "nats, kafka, etcd or kv" }),
        }
    }
}

/// How a caller wants a server to be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// An external address if one was given, else docker where it can, else native.
    #[default]
    Auto,
    /// In a container, or not at all.
    Docker,
    /// As a child process, or not at all.
    Native,
}

impl fmt::Display for Via {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Native => "native",
        })
    }
}

impl FromStr for Via {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "auto" => Ok(Self::Auto),
            "docker" => Ok(Self::Docker),
            "native" => Ok(Self::Native),
            _ => Err(UnknownWord { word: word.to_owned(), expected: "auto, docker or native" }),
        }
    }
}

/// How a running server was in fact started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioner {
    /// In a container.
    Docker,
    /// As a child of this process.
    Native,
    /// By somebody else; this process only connects to it.
    External,
}

impl Provisioner {
    /// The word for it in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Native => "native",
            Self::External => "external",
        }
    }
}

impl fmt::Display for Provisioner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A word that names no backend or way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {expected}")]
pub struct UnknownWord {
    word: String,
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
        for via in [Via::Auto, Via::Docker, Via::Native] {
            assert_eq!(via.to_string().parse(), Ok(via));
        }
        assert_eq!(
            "nat".parse::<Backend>().unwrap_err().to_string(),
            "`nat` is not one of nats, kafka, etcd or kv"
        );
    }
}
