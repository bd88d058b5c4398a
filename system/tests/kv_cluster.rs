//! Three real `kvnode` processes on loopback, killed, paused and refilled under load.

#![cfg(feature = "kv")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, and say what they saw"
)]

#[path = "kv_cluster/cluster.rs"]
mod cluster;
#[path = "kv_cluster/disks.rs"]
mod disks;
#[path = "kv_cluster/failover.rs"]
mod failover;
#[path = "kv_cluster/faults.rs"]
mod faults;
#[path = "kv_cluster/interface.rs"]
mod interface;
#[path = "kv_cluster/link.rs"]
mod link;
#[path = "kv_cluster/partitions.rs"]
mod partitions;
#[path = "support/ports.rs"]
mod ports;
