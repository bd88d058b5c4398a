//! What a user sets on the NATS backend: one table of documented defaults, unknown keys refused, every
//! impossible combination found before anything is started.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BACKEND;
use crate::queue::{Durability, QueueError};

mod access;

pub use access::{NatsAuth, NatsTls, Secret};

/// Settings of [`Nats`](super::Nats). Times are whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// Addresses tried in order: `nats://host:port`, or `tls://host:port`.
    pub servers: Vec<String>,
    /// Name of the stream.
    pub stream: String,
    /// The subject that messages go to. No wildcards.
    pub subject: String,
    /// What the stream takes, if that is more than `subject`: a pattern that covers it, such as `orders.*`.
    pub stream_takes: Option<String>,
    /// Where the server keeps the stream.
    pub storage: NatsStorage,
    /// When the server forgets a message.
    pub retention: NatsRetention,
    /// Most messages in the stream; a publish beyond it is rejected as full. Unset: no limit.
    pub max_messages: Option<u64>,
    /// Most bytes in the stream; a publish beyond it is rejected as full. Unset: no limit.
    pub max_bytes: Option<u64>,
    /// Age at which messages are dropped. Unset: never.
    pub max_age_ms: Option<u64>,
    /// How long the server remembers message ids.
    pub duplicate_window_ms: u64,
    /// Copies that the servers of a cluster keep.
    pub replicas: usize,
    /// What an acknowledgement must survive. `power-loss` is checked against the server, which needs
    /// `monitor_url`.
    pub durability: Durability,
    /// Most connections that publish; publishers take them in turn.
    pub connections: usize,
    /// Most messages without an outcome on one publishing connection; further ones wait.
    pub max_in_flight: usize,
    /// How long the client waits for an acknowledgement before it connects anew and sends again.
    pub ack_timeout_ms: u64,
    /// How often a message with an id is sent in all. 1: never again, so every break is an unknown fate.
    pub max_tries: u32,
    /// How long after its first sending a message may be sent again; below the duplicate window, or the
    /// server would take the second copy for a new message.
    pub retry_for_ms: u64,
    /// How long opening waits for the server.
    pub connect_timeout_ms: u64,
    /// How long any other question to the server may take.
    pub request_timeout_ms: u64,
    /// A silent server is given up after two to three of these.
    pub ping_interval_ms: u64,
    /// A delivery without an answer is delivered again after this long.
    pub ack_wait_ms: u64,
    /// Most deliveries of one message. Unset: no limit, which at-least-once needs.
    pub max_deliver: Option<u32>,
    /// Name of the durable consumer, in place of the group's; needs retention `work-queue`, where there is
    /// one group only.
    pub consumer: Option<String>,
    /// Most messages that all subscribers of a group together may hold unanswered.
    pub max_ack_pending: u32,
    /// Whether an acknowledgement by a consumer waits for the server's confirmation. Only then is it sure
    /// that the message does not come again; it costs a round trip.
    pub confirm_acks: bool,
    /// Who we are.
    pub auth: Option<NatsAuth>,
    /// How the connection is protected. `None` with a `tls://` address: the system's authorities.
    pub tls: Option<NatsTls>,
    /// `http://host:port` of the server's monitoring port, the only place that tells `sync_interval`.
    pub monitor_url: Option<String>,
}

/// Where the server keeps a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatsStorage {
    /// In files.
    File,
    /// In the server's memory: gone with the server process, so only for durability `volatile`.
    Memory,
}

/// When the server forgets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatsRetention {
    /// At the stream's limits only: every group gets every message, and a full stream stays full.
    Limits,
    /// When it is acknowledged: room comes back as in a queue, and there can be one group only.
    WorkQueue,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            stream: "QUEUEBENCH".to_owned(),
            subject: "queuebench.messages".to_owned(),
            stream_takes: None,
            storage: NatsStorage::File,
            retention: NatsRetention::Limits,
            max_messages: None,
            max_bytes: None,
            max_age_ms: None,
            duplicate_window_ms: 120_000,
            replicas: 1,
            durability: Durability::ProcessCrash,
            connections: 1,
            max_in_flight: 4_096,
            ack_timeout_ms: 5_000,
            max_tries: 5,
            retry_for_ms: 60_000,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 5_000,
            ping_interval_ms: 2_000,
            ack_wait_ms: 30_000,
            max_deliver: None,
            consumer: None,
            max_ack_pending: 10_000,
            confirm_acks: false,
            auth: None,
            tls: None,
            monitor_url: None,
        }
    }
}

/// Above this the slot table, built at once, would take hundreds of megabytes.
const MAX_IN_FLIGHT_LIMIT: usize = 1 << 20;

impl NatsConfig {
    /// Refuses what cannot work, before anything is started.
    ///
    /// # Errors
    /// [`QueueError::Setting`] for the first impossible setting.
    pub fn validate(&self) -> Result<(), QueueError> {
        if self.servers.is_empty() {
            return Err(setting("servers", "is empty: name at least one address, as nats://host:port"));
        }
        let distinct: BTreeSet<_> = self.servers.iter().collect();
        if distinct.len() != self.servers.len() {
            return Err(setting("servers", "names an address twice"));
        }
        if self.servers.iter().any(|address| address.contains('@')) {
            return Err(setting("servers", "must not hold a password, which would be shown: set `auth`"));
        }
        if self.stream.is_empty() || self.stream.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c))
        {
            return Err(setting("stream", "must be a name without white space and without . * > / \\"));
        }
        let token_ok = |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace());
        if !self.subject.split('.').all(token_ok) || self.subject.contains(['*', '>']) {
            return Err(setting("subject", "must be words joined by dots, without white space or wildcards"));
        }
        if self.stream_takes.as_deref().is_some_and(|pattern| !covers(pattern, &self.subject)) {
            return Err(setting(
                "stream_takes",
                "must be a pattern that covers `subject`, as `orders.*` does",
            ));
        }
        for (name, value) in [
            ("duplicate_window_ms", self.duplicate_window_ms),
            ("ack_timeout_ms", self.ack_timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("request_timeout_ms", self.request_timeout_ms),
            ("ping_interval_ms", self.ping_interval_ms),
            ("ack_wait_ms", self.ack_wait_ms),
            ("max_tries", u64::from(self.max_tries)),
            ("max_ack_pending", u64::from(self.max_ack_pending)),
        ] {
            if value == 0 {
                return Err(setting(name, "must be at least 1"));
            }
        }
        for (name, value) in [
            ("max_messages", self.max_messages),
            ("max_bytes", self.max_bytes),
            ("max_age_ms", self.max_age_ms),
            ("max_deliver", self.max_deliver.map(u64::from)),
        ] {
            if value.is_some_and(|v| v == 0 || i64::try_from(v).is_err()) {
                return Err(setting(name, "must be at least 1 (leave it out for no limit) and below 2^63"));
            }
        }
        if !(1..=MAX_IN_FLIGHT_LIMIT).contains(&self.max_in_flight) {
            return Err(setting("max_in_flight", &format!("must be from 1 to {MAX_IN_FLIGHT_LIMIT}")));
        }
        if !(1..=64).contains(&self.connections) {
            return Err(setting("connections", "must be from 1 to 64"));
        }
        if !(1..=5).contains(&self.replicas) {
            return Err(setting("replicas", "must be from 1 to 5"));
        }
        if self.max_tries > 1 && self.retry_for_ms >= self.duplicate_window_ms {
            return Err(setting(
                "retry_for_ms",
                "must be below duplicate_window_ms, else a message sent again could be stored twice",
            ));
        }
        if self.consumer.is_some() && self.retention != NatsRetention::WorkQueue {
            return Err(setting("consumer", "needs retention work-queue: else every group has its own"));
        }
        match (self.storage, self.durability) {
            (NatsStorage::Memory, Durability::ProcessCrash | Durability::PowerLoss) => Err(setting(
                "durability",
                "memory storage survives nothing: set durability to volatile, or storage to file",
            )),
            (_, Durability::PowerLoss) if self.monitor_url.is_none() => Err(setting(
                "monitor_url",
                "is needed for durability power-loss: only the monitoring port tells whether the server \
                 syncs before it acknowledges",
            )),
            _ => Ok(()),
        }?;
        if let Some(tls) = &self.tls {
            tls.validate()?;
        }
        Ok(())
    }

    pub(super) fn ack_timeout(&self) -> Duration {
        Duration::from_millis(self.ack_timeout_ms)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

pub(super) fn setting(setting: &'static str, reason: &str) -> QueueError {
    QueueError::Setting { backend: BACKEND, setting, reason: reason.to_owned() }
}

/// Whether a subject falls under a pattern: `*` stands for one word, `>` at the end for one and more.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    let mut parts = pattern.split('.').peekable();
    while let Some(part) = parts.next() {
        match (part, words.next()) {
            (">", Some(_)) => return parts.peek().is_none(),
            ("*", Some(_)) => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_take_more_than_its_queue_but_not_something_else() {
        for (pattern, covered) in [
            ("diplom.*", true),
            ("diplom.>", true),
            ("*.messages", true),
            ("diplom.messages", true),
            (">", true),
            ("diplom", false),
            ("diplom.*.*", false),
            ("other.*", false),
            ("diplom.>.messages", false),
        ] {
            let config = NatsConfig {
                subject: "diplom.messages".to_owned(),
                stream_takes: Some(pattern.to_owned()),
                ..NatsConfig::default()
            };
            assert_eq!(config.validate().is_ok(), covered, "{pattern}");
        }
    }
}
