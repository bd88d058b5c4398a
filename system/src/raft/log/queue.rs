//! What waits for the writer thread: encoded records and whoever wants to know when they are durable.

use std::io;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use crate::raft::types::{LogId, Types};

/// Told, in order, once everything queued with or before it is durable or has failed.
pub(super) enum Waiter {
    Append(IOFlushed<Types>),
    Vote(oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    pub(super) fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(flushed) => flushed.io_completed(result),
            Self::Vote(done) => {
                let _ = done.send(result);
            }
        }
    }
}

/// An entry's record inside [`Queue::bytes`].
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedEntry {
    pub(super) log_id: LogId,
    pub(super) at: usize,
    pub(super) bytes: u32,
}

/// Records in the order of the stream, encoded when queued so that the writer only writes.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<QueuedEntry>,
    pub(super) waiters: Vec<Waiter>,
    /// Whether anything queued must be durable.
    pub(super) flush: bool,
    /// Entries up to here are no longer needed.
    pub(super) purged: Option<LogId>,
}
