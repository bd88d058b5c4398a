//! A durable, linearizable key-value store on [`crate::raft`].
//!
//! Keys have revisions as in etcd: one counter for the whole store, a creation and a modification revision
//! and a version per key, and history until it is compacted. Read in this order: [`command`] (what is
//! replicated), [`store`] (what it does to the state, a plain data structure), [`machine`], [`service`]
//! (writes and reads with their limits), [`http`] (the API), [`client`].

pub mod client;
pub mod command;
pub mod http;
pub mod machine;
pub mod program;
pub mod server;
pub mod service;
pub mod store;
