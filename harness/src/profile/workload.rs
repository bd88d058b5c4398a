//! What is sent, and by how many.

use serde::{Deserialize, Serialize};

use super::{Keys, Payload, TraceSource};

/// What is sent, and by how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The body of every message.
    pub payload: Payload,
    /// Independent senders, each with its own client.
    #[serde(default = "one")]
    pub producers: u16,
    /// Receivers that share each group's messages.
    #[serde(default = "one")]
    pub consumers: u16,
    /// Consumer groups; each gets every message.
    #[serde(default = "one")]
    pub groups: u16,
    /// Partitions of the topic, where the backend has them.
    #[serde(default = "four")]
    pub partitions: u16,
    /// Which key each message carries.
    #[serde(default)]
    pub keys: Keys,
    /// A recorded trace, for `payload`, `keys` and `rate` to refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSource>,
}

fn one() -> u16 {
    1
}

fn four() -> u16 {
    4
}
