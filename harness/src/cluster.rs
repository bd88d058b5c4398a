//! A coordination cluster as a subject: keys are looked up and small data is written over its HTTP API while
//! nodes die.
//!
//! Each lane is a client with a node of its own; it goes on to the next node when that one does not answer, as
//! clients of such a cluster do. Every lookup must name the partition that the key's hash names; every
//! value that was acknowledged is asked of every node after the load. What the nodes make of a death is
//! observed from outside, by the runner ([`view`]).

use serde::{Deserialize, Serialize};

mod check;
mod client;
mod subject;
mod trial;
pub mod view;

#[cfg(test)]
mod tests;

pub use trial::run;

/// The most nodes that a subject starts.
const NODES_MAX: u16 = 9;

/// A cluster's settings, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Nodes, each a process.
    pub nodes: u16,
    /// Partitions of the key space.
    pub partitions: u32,
    /// Nodes in charge of each partition, the primary included.
    pub replication_factor: u16,
    /// Between two questions to the same node.
    pub health_interval_ms: u64,
    /// For one answer.
    pub health_timeout_ms: u64,
    /// Questions in a row that must go unanswered before a node is removed.
    pub health_failures: u32,
    /// How long a client waits for one answer.
    pub timeout_ms: u64,
    /// How long a node may take, after the load, to hold everything that was acknowledged: one that was killed
    /// has to catch up first.
    pub catch_up_ms: u64,
    /// `host:port` of every node; filled in when they run.
    pub endpoints: Vec<String>,
    /// Before every key of custom data; filled in for each trial.
    pub prefix: String,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            nodes: 3,
            partitions: 64,
            replication_factor: 3,
            health_interval_ms: 500,
            health_timeout_ms: 500,
            health_failures: 3,
            timeout_ms: 2_000,
            catch_up_ms: 30_000,
            endpoints: Vec::new(),
            prefix: String::new(),
        }
    }
}

impl ClusterConfig {
    /// Settings that are no setting: they differ from trial to trial.
    pub const PLACES: [&'static str; 2] = ["endpoints", "prefix"];

    /// Checks what a profile says.
    ///
    /// # Errors
    /// The first setting that cannot be, and what could.
    pub fn validate(&self) -> Result<(), String> {
        let rules = [
            ((1..=NODES_MAX).contains(&self.nodes), "`nodes` must be 1 to 9"),
            ((1..=65_536).contains(&self.partitions), "`partitions` must be 1 to 65536"),
            ((1..=64).contains(&self.replication_factor), "`replication_factor` must be 1 to 64"),
            (
                self.replication_factor <= self.nodes,
                "`replication_factor` must be at most `nodes`: partitions are assigned once there are so many",
            ),
            ((50..=60_000).contains(&self.health_interval_ms), "`health_interval_ms` must be 50 to 60000"),
            ((50..=60_000).contains(&self.health_timeout_ms), "`health_timeout_ms` must be 50 to 60000"),
            ((1..=100).contains(&self.health_failures), "`health_failures` must be 1 to 100"),
            ((10..=60_000).contains(&self.timeout_ms), "`timeout_ms` must be 10 to 60000"),
            ((10..=60_000).contains(&self.catch_up_ms), "`catch_up_ms` must be 10 to 60000"),
        ];
        rules.into_iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err(rule.to_owned()))
    }
}

/// What a phase does to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterOperation {
    /// Asks which partition the slot's key belongs to, and who has it.
    Lookup,
    /// Writes a value of custom data under a key of its own.
    PutData,
    /// Nine lookups, then a write.
    Mixed,
}

impl ClusterOperation {
    /// Every one, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Lookup, Self::PutData, Self::Mixed];

    /// The word for it in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::PutData => "put-data",
            Self::Mixed => "mixed",
        }
    }

    /// What a phase says; a phase that says nothing looks up.
    ///
    /// # Errors
    /// When there is no such operation.
    pub fn of_phase(word: Option<&str>) -> Result<Self, String> {
        let Some(word) = word else { return Ok(Self::Lookup) };
        Self::ALL.into_iter().find(|operation| operation.name() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|operation| operation.name()).collect();
            format!("`{word}` is no operation of a cluster; there are {}", known.join(", "))
        })
    }
}
