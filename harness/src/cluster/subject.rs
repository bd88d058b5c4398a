//! A cluster as a subject that is operated on: from a slot of the plan to a request, and from its answer to an
//! outcome.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use queuebench_system::cluster::placement::partition_of;
use serde::Deserialize;

use super::client::{Ask, Client, Failure};
use super::{ClusterConfig, ClusterOperation};
use crate::envelope;
use crate::operation::{Operate, Operation, Outcome, Worker};
use crate::plan::Plan;

/// One write for so many operations of a mixed phase.
const MIXED_EVERY: u64 = 10;
/// Values that a worker remembers, to ask for them after the load.
const WRITTEN_MAX: usize = 200_000;

/// A cluster under load.
pub(super) struct Cluster {
    pub(super) config: ClusterConfig,
    pub(super) plan: Arc<Plan>,
    /// By phase.
    pub(super) operations: Vec<ClusterOperation>,
}

/// A value that was acknowledged. What it is follows from its key and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) bytes: usize,
}

impl Written {
    pub(super) fn path(&self) -> String {
        format!("/custom-data/{}", self.key)
    }

    /// The key, filled up with it to the size.
    pub(super) fn value(&self) -> Bytes {
        self.key.bytes().cycle().take(self.bytes.max(self.key.len())).collect()
    }
}

/// What a worker leaves.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) written: Vec<Written>,
    /// Acknowledged writes that there was no room to remember.
    pub(super) forgotten: u64,
    /// Lookups that named another partition than the key's hash does.
    pub(super) wrong: u64,
    /// One of them.
    pub(super) example: Option<String>,
}

/// A key that is looked up.
struct Key {
    path: String,
    partition: String,
}

/// One worker's side.
pub(super) struct ClusterWorker {
    client: Client,
    plan: Arc<Plan>,
    operations: Vec<ClusterOperation>,
    keys: Vec<Key>,
    /// Before the number of each value.
    prefix: String,
    left: RefCell<Left>,
    next: std::cell::Cell<u64>,
}

impl Operate for Cluster {
    type Worker = ClusterWorker;

    async fn worker(&self, index: u16, lanes: u32) -> Result<ClusterWorker, String> {
        let timeout = Duration::from_millis(self.config.timeout_ms);
        let key = |name: &Bytes| Key {
            path: format!("/partitions/key?key={}", escaped(name)),
            partition: partition_of(name, self.config.partitions).to_string(),
        };
        Ok(ClusterWorker {
            client: Client::new(&self.config.endpoints, lanes, timeout),
            plan: Arc::clone(&self.plan),
            operations: self.operations.clone(),
            keys: self.plan.keys.iter().map(key).collect(),
            prefix: format!("{}/{index}", self.config.prefix),
            left: RefCell::default(),
            next: std::cell::Cell::new(0),
        })
    }
}

impl Worker for ClusterWorker {
    type Leaves = Left;

    async fn operate(&self, operation: Operation) -> Outcome {
        match self.operations[operation.phase] {
            ClusterOperation::PutData => self.put(operation).await,
            ClusterOperation::Mixed if operation.slot % MIXED_EVERY == MIXED_EVERY - 1 => {
                self.put(operation).await
            }
            ClusterOperation::Lookup | ClusterOperation::Mixed => self.look_up(operation).await,
        }
    }

    fn leave(self) -> Left {
        self.left.into_inner()
    }
}

impl ClusterWorker {
    async fn look_up(&self, operation: Operation) -> Outcome {
        #[derive(Deserialize)]
        struct Location<'a> {
            #[serde(borrow)]
            partition: Partition<'a>,
            primary: Option<Node>,
        }
        #[derive(Deserialize)]
        struct Partition<'a> {
            id: &'a str,
        }
        #[derive(Deserialize)]
        struct Node {}
        let key = &self.keys[self.plan.phases[operation.phase].keys.of_slot(operation.slot) as usize];
        match self.client.ask(operation.lane, Ask::Get(&key.path)).await {
            Ok((StatusCode::OK, body)) => {
                let location = serde_json::from_slice::<Location<'_>>(&body).ok();
                if location.as_ref().is_none_or(|location| location.partition.id != key.partition) {
                    let mut left = self.left.borrow_mut();
                    left.wrong += 1;
                    left.example.get_or_insert_with(|| {
                        let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                        format!("{} is in {}, and {said} was answered", key.path, key.partition)
                    });
                } else if location.is_some_and(|location| location.primary.is_none()) {
                    // Its primary was removed and the partition is not given to another yet.
                    return Outcome::Refused;
                }
                Outcome::Done
            }
            Ok(_) | Err(_) => Outcome::Refused,
        }
    }

    /// No key twice: a write without an answer may still be made later, over what followed it.
    async fn put(&self, operation: Operation) -> Outcome {
        let number = self.next.get();
        self.next.set(number + 1);
        let body = self.plan.phases[operation.phase].bodies.of_slot(operation.slot);
        let written = Written { key: format!("{}/{number}", self.prefix), bytes: envelope::LEN + body.len() };
        match self.client.ask(operation.lane, Ask::Put(&written.path(), written.value())).await {
            Ok((StatusCode::OK, _)) => {
                let mut left = self.left.borrow_mut();
                if left.written.len() < WRITTEN_MAX {
                    left.written.push(written);
                } else {
                    left.forgotten += 1;
                }
                Outcome::Done
            }
            Ok((StatusCode::GATEWAY_TIMEOUT, _)) | Err(Failure::Unknown(_)) => Outcome::Unknown,
            Ok(_) | Err(Failure::Refused(_)) => Outcome::Refused,
        }
    }
}

/// As it stands in a query.
fn escaped(key: &[u8]) -> String {
    let mut out = String::with_capacity(key.len());
    for &byte in key {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_by_its_key_and_size() {
        let written = |bytes| Written { key: "t/0/17".to_owned(), bytes };
        assert_eq!(written(15).value(), "t/0/17t/0/17t/0");
        assert_eq!(written(1).value(), "t/0/17", "never shorter than what tells it apart");
    }

    #[test]
    fn keys_are_escaped_where_a_query_needs_it() {
        assert_eq!(escaped(b"user:1 &ok-2"), "user%3A1%20%26ok-2");
    }
}
