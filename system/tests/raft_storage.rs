//! The log and snapshot stores against a disk that loses power, fails and lies about nothing else.

#![cfg(feature = "raft")]

#[path = "raft_storage/power_loss.rs"]
mod power_loss;
#[cfg(feature = "kv")]
#[path = "raft_storage/suite.rs"]
mod suite;
#[path = "raft_storage/support.rs"]
mod support;
