//! What is sent, and by how many.

use serde::{Deserialize, Serialize};

use super::{Keys, MessageIds, Payload, TraceSource};

/// What is sent, and by how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The body of every message.
    pub payload: Payload,
    /// Topics side by side, each with producers, groups, consumers and partitions of its own. A rate and a
    /// number in flight are of all of them together.
    #[serde(default = "one")]
    pub topics: u16,
    /// Independent senders to each topic, each with its own client.
    #[serde(default = "one")]
    pub producers: u16,
    /// Receivers that share the messages of each group of a topic.
    #[serde(default = "one")]
    pub consumers: u16,
    /// Consumer groups of each topic; each gets every message of it.
    #[serde(default = "one")]
    pub groups: u16,
    /// Partitions of each topic, where the backend has them.
    #[serde(default = "four")]
    pub partitions: u16,
    /// Which key each message carries.
    #[serde(default)]
    pub keys: Keys,
    /// Whether messages carry an id. Unless given, they do where the backend drops copies by it: NATS
    /// remembers each for its duplicate window, which costs the server about half as much again per message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_ids: Option<MessageIds>,
    /// A recorded trace, for `payload`, `keys` and `rate` to refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSource>,
}

impl Workload {
    /// Whether messages have keys, for an order to be promised to.
    pub fn has_keys(&self) -> bool {
        self.keys != Keys::None
    }

    /// Producers of all topics.
    pub fn all_producers(&self) -> u16 {
        self.topics.saturating_mul(self.producers)
    }
}

fn one() -> u16 {
    1
}

fn four() -> u16 {
    4
}
