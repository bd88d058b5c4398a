//! What is about to be written to a connection: frames are appended from any task, one task writes them.
//!
//! Everything appended since the last write leaves in one write. Bound: the callers' own (each frame belongs to
//! an admitted request); a peer that stops reading ends the connection after the write limit.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::KEEP_BUFFER_BYTES;

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    closed: bool,
}

/// The appending side.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

impl Outbox {
    /// Appends what `write` writes, unless the connection is over; says whether it was appended.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        let was_empty = state.buffer.is_empty();
        write(&mut state.buffer);
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
        true
    }

    /// As [`push`](Self::push), but a peer that has let more than `max_bytes` pile up is given up: it gets what
    /// was appended before, and no more.
    pub(crate) fn push_within(&self, max_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let is_behind = self.state.lock().buffer.len() > max_bytes;
        if is_behind {
            self.close();
        }
        self.push(write)
    }

    /// What was appended and not yet taken for writing.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<u8> {
        self.state.lock().buffer.clone()
    }

    /// No more; the writer ends once everything is written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Writes until closed and empty, then ends the sending direction.
    ///
    /// # Errors
    /// When the connection fails, or a write takes longer than `limit`.
    pub(crate) async fn write_to(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        limit: Duration,
    ) -> io::Result<()> {
        let mut writing = Vec::new();
        loop {
            self.wake.notified().await;
            // Lets every task that is ready now append first, so that their frames share this write.
            tokio::task::yield_now().await;
            let closed = {
                let mut state = self.state.lock();
                std::mem::swap(&mut state.buffer, &mut writing);
                state.closed
            };
            if !writing.is_empty() {
                tokio::time::timeout(limit, writer.write_all(&writing)).await??;
                writing.clear();
                writing.shrink_to(KEEP_BUFFER_BYTES);
            }
            if closed {
                return writer.shutdown().await;
            }
        }
    }
}
