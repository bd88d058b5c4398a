//! Raft plumbing shared by the key-value store and the cluster library.
//!
//! The replicated log, its storage, the peer connections and snapshots know nothing of what they replicate:
//! a command is a run of bytes, and an application implements [`machine::Machine`] to apply it. openraft
//! decides who leads and what is committed; its types stay inside this module.
//!
//! Read in this order: [`disk`] (files, real or with a power-loss model), [`log`] (the one ordered record
//! stream with group commit), [`snapshot`], [`machine`], [`network`], [`identity`], [`node`] (all of it
//! running), [`program`] (a node as a process).

pub mod codec;
pub mod disk;
pub mod identity;
pub mod log;
pub mod machine;
pub mod network;
pub mod node;
pub mod program;
pub mod snapshot;
pub mod types;
