//! Key-value stores as subjects: our own over HTTP, etcd over gRPC, under the same load by the same program.
//!
//! A trial works on keys of its own, so that every register begins absent. Writes and linearizable reads go
//! to the leader, as long as it is known, for both stores alike; serializable reads are spread over all
//! members. Every operation is recorded; after the load every key that was written is read once more, the
//! members' states are compared, and the history is judged ([`consistency`](crate::consistency)).

use serde::{Deserialize, Serialize};

mod answer;
mod check;
mod client;
mod etcd;
mod etcd_messages;
mod http;
mod recorder;
mod subject;
mod trial;

pub use trial::{HISTORY_FILE, StoreResult, run};

/// Which interface a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Our own, over HTTP/1.1: one connection a client.
    Kv,
    /// etcd v3 over gRPC: clients share HTTP/2 connections.
    Etcd,
}

/// How a store is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Its interface.
    pub api: Api,
    /// `host:port` of every member.
    pub endpoints: Vec<String>,
    /// Before every key of the trial.
    pub prefix: String,
    /// The longest that an operation may take before its outcome counts as unknown.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Clients that share one connection; gRPC only.
    #[serde(default = "default_clients_per_connection")]
    pub clients_per_connection: u32,
}

fn default_timeout_ms() -> u64 {
    5_000
}

/// As in the load generator of etcd's own documentation: 1,000 clients on 100 connections.
fn default_clients_per_connection() -> u32 {
    10
}

/// What a phase does to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreOperation {
    /// Sets the slot's key.
    Put,
    /// Reads the slot's key linearizably.
    Get,
    /// Reads it at some member, perhaps stale.
    GetSerializable,
    /// Nine reads, then a put.
    Mixed,
    /// Reads one of a few hot keys unless it is known, then compares and sets it.
    Cas,
    /// Reads up to ten keys from the slot's key on.
    Range,
}

impl StoreOperation {
    /// Every one, in the order in which they are listed.
    pub const ALL: [Self; 6] =
        [Self::Put, Self::Get, Self::GetSerializable, Self::Mixed, Self::Cas, Self::Range];

    /// The word for it in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetSerializable => "get-serializable",
            Self::Mixed => "mixed",
            Self::Cas => "cas",
            Self::Range => "range",
        }
    }

    /// What a phase says; a phase that says nothing puts.
    ///
    /// # Errors
    /// When there is no such operation.
    pub fn of_phase(word: Option<&str>) -> Result<Self, String> {
        let Some(word) = word else { return Ok(Self::Put) };
        Self::ALL.into_iter().find(|operation| operation.name() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|operation| operation.name()).collect();
            format!("`{word}` is no operation of a store; there are {}", known.join(", "))
        })
    }
}
