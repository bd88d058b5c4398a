//! What each server is told: its configuration file and its arguments, the same for every way of starting.
//!
//! A configuration is a pure function of a [`Layout`], so that a container and a child process differ in
//! paths and addresses only. Everything that decides durability and limits is written down here and quoted
//! in the run's record through [`Facts`](crate::Facts).

pub(crate) mod etcd;
pub(crate) mod kafka;
pub(crate) mod kv;
pub(crate) mod nats;

use queuebench_system::queue::Durability;

/// Where a server listens, keeps its data, and what it calls itself.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Unique per start: tells our server from another one that answers on the same port.
    pub(crate) identity: String,
    /// The address it binds: loopback, or every address inside a container with a published port.
    pub(crate) bind: &'static str,
    /// Where clients connect on 127.0.0.1.
    pub(crate) port: u16,
    /// NATS: monitoring; Kafka: controller; etcd: the other members; the key-value store has none.
    pub(crate) side_port: u16,
    /// As the server sees it.
    pub(crate) data_dir: String,
    /// What an acknowledgement has to survive.
    pub(crate) durability: Durability,
    /// etcd: every member of the cluster with its side port, this one included; the key-value store: with the
    /// clients' port, which is the peers' too.
    pub(crate) members: Vec<(String, u16)>,
}

impl Layout {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The largest payload that every backend takes, and room for headers and keys beside it.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024 + 64 * 1024;
