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
//! - [`command`], [`state`], [`event`]: what may change, how it changes, and what is told about it.
//! - [`duties`], [`health`]: what a leader does next, and whom it removes.
//! - [`hooks`]: how applications are told.
//! - [`view`], [`export`]: the JSON that is shown and written out.
//! - [`changes`]: who has to copy what when partitions change hands, and the plan to look at before.
//! - [`status`], [`tls`]: how a node is, and who may talk to it.
//! - [`options`], [`machine`], [`kit`]: the running node, on the Raft plumbing it shares with the store;
//!   [`program`]: the node as a program.

pub mod bytes64;
pub mod changes;
mod client;
pub mod command;
pub mod duties;
pub mod error;
pub mod event;
pub mod export;
pub mod health;
pub mod hooks;
mod http;
pub mod kit;
pub mod machine;
pub mod name;
pub mod node;
pub mod options;
pub mod placement;
pub mod program;
pub mod state;
pub mod status;
pub mod tls;
pub mod topology;
pub mod view;

pub use command::{Command, Operation, Outcome, Refusal};
pub use error::{ChangeError, QueryError, StartError};
pub use event::Event;
pub use hooks::{EventStream, Hooks};
pub use kit::{
    ClusterKit,
    builder::Builder,
    query::{PartitionRole, Responsibility},
};
pub use name::{NameError, NodeId, PartitionId};
pub use node::{Member, Node, NodeError};
pub use options::{Options, OptionsError};
pub use placement::{Assignment, Placement};
pub use state::{Applied, State};
pub use topology::{Located, Topology, TopologyCell};
