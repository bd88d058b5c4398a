//! Errors of a running node.

use super::{
    command::Refusal,
    name::{NodeId, PartitionId},
    options::OptionsError,
};

/// A node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options are wrong.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data directory cannot be used.
    #[error("failed to create data directory: {0}")]
    DataDirectory(std::io::Error),
    /// A port cannot be had.
    #[error("failed to start {what} on {address}: {source}")]
    Bind {
        /// Which server.
        what: &'static str,
        /// Where.
        address: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// Raft does not start.
    #[error("failed to start consensus: {0}")]
    Consensus(#[from] crate::raft::node::StartError),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The log takes too long to be read back.
    #[error("log not read back within {0:?}")]
    Recovery(std::time::Duration),
}

/// A question that cannot be answered now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No partition has been assigned yet.
    #[error("no partitions available")]
    NoPartitions,
    /// The cluster has no name yet.
    #[error("cluster not initialized")]
    NotInitialized,
    /// There is no such partition.
    #[error("partition {0} not found")]
    UnknownPartition(PartitionId),
    /// There is no such node.
    #[error("node {0} not found")]
    UnknownNode(NodeId),
    /// There is no such custom data.
    #[error("key not found: {0}")]
    UnknownKey(String),
    /// Nobody leads.
    #[error("no leader elected")]
    NoLeader,
    /// Nobody led in time.
    #[error("timeout waiting for leader election")]
    LeaderTimeout,
    /// No leader confirmed in time that this node is up to date.
    #[error("not known to be up to date: {0}")]
    Behind(String),
}

/// A change that was not made, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Certainly not made: the cluster refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Certainly not made: nobody led before the deadline.
    #[error("no leader available")]
    NoLeader,
    /// Certainly not made: it is asked of the leader itself, and this node does not lead.
    #[error("only leader can {0}")]
    OnlyLeader(&'static str),
    /// Certainly not made: it would leave no majority that answers.
    #[error("removing {0} would leave no majority that answers")]
    Majority(NodeId),
    /// Certainly not made: too much is under way.
    #[error("too many changes under way")]
    Busy,
    /// Certainly not made: the leader did not take it.
    #[error("the leader refused: {0}")]
    Rejected(String),
    /// May have been made, now or later.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}
