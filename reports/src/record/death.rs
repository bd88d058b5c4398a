//! What the other nodes of a cluster made of one that was killed.

use serde::{Deserialize, Serialize};

/// A node of a cluster that was killed and, after a while, started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// Its id.
    pub node: String,
    /// Whether it led.
    pub was_leader: bool,
    /// Nodes before it died.
    pub nodes: u32,
    /// Seconds since the trial's start.
    pub at_s: f64,
    /// From its death until the first of the others listed it no more; absent when none did before it was
    /// started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_s: Option<f64>,
    /// From its death until all the others showed the same assignment without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_s: Option<f64>,
    /// From its restart until all nodes, itself included, showed the same assignment with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_s: Option<f64>,
    /// Partitions there are.
    pub partitions: u32,
    /// Partitions whose nodes had changed when the others agreed.
    pub partitions_moved: u32,
    /// Calls of hooks that returned on the others from its death until it was started again, in all.
    pub hooks_delivered: u64,
    /// Events that hooks there were too slow for.
    pub hooks_missed: u64,
}
