//! The log and snapshot stores against a disk that loses power, fails and lies about nothing else.

#![cfg(feature = "raft")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, and say what they saw")]

#[path = "raft_storage/power_loss.rs"]
mod power_loss;
#[cfg(feature = "kv")]
#[path = "raft_storage/suite.rs"]
mod suite;
#[path = "raft_storage/support.rs"]
mod support;
