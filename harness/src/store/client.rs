//! What a worker needs of a store's client.

use std::future::Future;

use bytes::Bytes;

use super::answer::{Answer, Failure};

/// A request for one key.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Put {
        value: Bytes,
    },
    Get {
        serializable: bool,
    },
    /// Sets the key if its last change was at `expected`; 0 for "no such key".
    Cas {
        expected: i64,
        value: Bytes,
    },
    Range {
        limit: u32,
    },
}

impl Request {
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Cas { .. })
    }
}

/// A client with `lanes` sequential users on one thread. Every call ends within the configured time.
pub(super) trait Client: Sized + 'static {
    fn connect(config: &super::StoreConfig, lanes: u32) -> impl Future<Output = Result<Self, String>>;

    fn send(&self, lane: u32, key: &str, request: Request) -> impl Future<Output = Result<Answer, Failure>>;

    /// Each member's state: its revision and a hash of all it holds. Two members with the same state answer
    /// the same.
    fn states(&self) -> impl Future<Output = Result<Vec<(i64, u64)>, String>>;
}
