//! Real servers, started, broken, restarted and stopped, with real clients.
//!
//! A test whose way is not open on this machine prints that it was left out and why; with
//! `QUEUEBENCH_REQUIRE` it fails instead.

#[path = "servers/common.rs"]
mod common;
#[path = "servers/docker.rs"]
mod docker;
#[path = "servers/native.rs"]
mod native;
