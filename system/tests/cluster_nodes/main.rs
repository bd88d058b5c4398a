//! Real nodes on real sockets and disks: forming a cluster, losing members, getting them back.

mod api;
mod membership;
mod support;
