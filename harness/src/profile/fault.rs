//! Something to break while the load goes on.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// A fault on the timeline of every trial whose subject has such a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// From the start of the load, warm-up included.
    pub at: Span,
    /// What is done.
    pub kind: FaultKind,
    /// To which server; to all of the subject's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<FaultTarget>,
    /// How long until it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// SIGKILL; started again with its data after the duration.
    Kill,
    /// Frozen for the duration: connections stay open and nothing answers.
    Pause,
    /// Stopped in order and started again at once.
    Restart,
}

impl FaultKind {
    /// The word for it everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Restart => "restart",
        }
    }
}

/// Which server is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultTarget {
    /// The NATS server, also as a composite's child.
    Nats,
    /// The Kafka broker, also as a composite's child.
    Kafka,
    /// A node of a cluster that does not lead it.
    ClusterFollower,
    /// The node that leads a cluster.
    ClusterLeader,
}

impl FaultTarget {
    /// As the server is called elsewhere; a cluster's nodes are no server of that kind.
    pub fn server(self) -> Option<queuebench_testcontainers::Backend> {
        match self {
            Self::Nats => Some(queuebench_testcontainers::Backend::Nats),
            Self::Kafka => Some(queuebench_testcontainers::Backend::Kafka),
            Self::ClusterFollower | Self::ClusterLeader => None,
        }
    }

    /// Whether it is a node of a cluster.
    pub fn is_cluster(self) -> bool {
        matches!(self, Self::ClusterFollower | Self::ClusterLeader)
    }
}

impl Fault {
    /// Whether it is meant for this server.
    pub fn hits(&self, server: queuebench_testcontainers::Backend) -> bool {
        self.target.is_none_or(|target| target.server() == Some(server))
    }

    /// Which node of a cluster it is meant for, if it is.
    pub fn cluster_target(&self) -> Option<FaultTarget> {
        self.target.filter(|target| target.is_cluster())
    }

    /// Whether both could be at work on one server at a time.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let end = |fault: &Self| fault.at.0 + fault.duration.map(|d| d.0).unwrap_or_default();
        // One death of a cluster at a time, so that each has figures of its own.
        let cluster = self.cluster_target().is_some() && other.cluster_target().is_some();
        let same = self.target.is_none() || other.target.is_none() || self.target == other.target || cluster;
        same && self.at.0 <= end(other) && other.at.0 <= end(self)
    }
}
