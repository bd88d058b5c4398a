//! Real nodes on real sockets and disks: forming a cluster, losing members, getting them back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod hooks;
mod membership;
#[path = "../support/ports.rs"]
mod ports;
mod processes;
mod security;
mod storm;
mod support;
