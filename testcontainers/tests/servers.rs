//! Real servers, started, broken, restarted and stopped, with real clients; and every way in which a start
//! can fail, made to fail for real.
//!
//! A test whose way is not open on this machine prints that it was left out and why; with
//! `QUEUEBENCH_REQUIRE` it fails instead.

#![expect(clippy::unwrap_used, reason = "a test fails where it finds what it did not expect")]

#[path = "servers/building.rs"]
mod building;
#[path = "servers/cluster.rs"]
mod cluster;
#[path = "servers/common.rs"]
mod common;
#[path = "servers/death.rs"]
mod death;
#[path = "servers/docker.rs"]
mod docker;
#[path = "servers/external.rs"]
mod external;
#[path = "servers/failures.rs"]
mod failures;
#[path = "servers/native.rs"]
mod native;
