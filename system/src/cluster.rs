//! A cluster-coordination library: who is in the cluster, which member owns which part of the key space,
//! and small data everybody agrees on.
//!
//! Everything that changes, changes by one command in one replicated log; what a node shows is what it has
//! applied, never what it hopes for. The parts that decide are plain values and functions without a
//! runtime, a socket or a clock, and are read in this order:
//!
//! - [`name`]: the names that may be used, checked once at the border.
//! - [`node`]: a member, as shown and as kept.
//! - [`placement`]: key → partition → nodes.
//! - [`topology`]: the immutable picture readers look keys up in, without a lock.

pub mod name;
pub mod node;
pub mod placement;
pub mod topology;

pub use name::{NameError, NodeId, PartitionId};
pub use node::{Member, Node, NodeError};
pub use placement::{Assignment, Placement};
pub use topology::{Located, Topology, TopologyCell};
