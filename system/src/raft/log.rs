//! The replicated log on disk: one ordered, checksummed stream of records for entries, votes, commit marks,
//! truncations and purges, in pre-allocated segments.
//!
//! Everything is written by one thread that takes whatever is queued, writes it with one call and flushes it
//! with one `fdatasync`, so that one flush acknowledges all that arrived during the one before (group commit).
//! A vote is on disk when [`openraft::storage::RaftLogStorage::save_vote`] returns; entries are readable when
//! `append` returns and acknowledged, in order, when durable. A commit mark is written but not flushed for.
//!
//! Bounds: the queue takes 16 MiB before `append` waits; entries kept in memory are limited by
//! [`LogConfig::cache_bytes`], older ones are read back from their segment. After one failed write or flush
//! the store refuses everything: what is durable is then unknown, and only a restart can tell.

use std::{
    fmt::{self, Debug},
    io,
    ops::{Bound, RangeBounds},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use super::{
    codec,
    disk::Disk,
    types::{Entry, LogId, Types, Vote},
};
use index::{Index, Stored};
use queue::{Queue, Waiter};
use record::Kind;

mod index;
mod queue;
mod record;
mod recovery;
mod segment;
mod writer;

pub use recovery::OpenError;

/// Queued bytes above which `append` waits for the writer.
const QUEUE_BYTES: usize = 16 << 20;
/// Most bytes of entries that one limited read returns (always at least one entry).
const READ_BYTES: usize = 1 << 20;

/// Where the log lives and how large its parts are.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Directory of the segments; nothing else may live there.
    pub dir: PathBuf,
    /// Random number of this data directory: a segment of another one is refused.
    pub store: u64,
    /// Pre-allocated size of a segment.
    pub segment_bytes: u64,
    /// Most bytes of entries kept in memory.
    pub cache_bytes: usize,
}

impl LogConfig {
    /// A log in `dir` with segments of 64 MiB and a cache of 16 MiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, store: u64) -> Self {
        Self { dir: dir.into(), store, segment_bytes: 64 << 20, cache_bytes: 16 << 20 }
    }
}

struct State {
    index: Index,
    queue: Queue,
    /// Number of the next record.
    next_seq: u64,
    /// All records below are durable.
    durable_seq: u64,
    failed: Option<String>,
    stop: bool,
    /// When the flush that is under way began.
    flush_began: Option<Instant>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    room: Notify,
    seed: u32,
}

impl Shared {
    fn push(
        &self,
        state: &mut State,
        kind: Kind,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<(usize, u32)> {
        if let Some(reason) = &state.failed {
            return Err(failed(reason));
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        record::put(&mut state.queue.bytes, self.seed, seq, state.durable_seq, kind, fill)
    }
}

fn failed(reason: &str) -> io::Error {
    io::Error::other(format!("the log failed earlier and takes nothing more: {reason}"))
}

/// The log store that openraft drives. Made by [`LogStore::open`].
pub struct LogStore {
    shared: Arc<Shared>,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").finish_non_exhaustive()
    }
}

/// Watches and ends the writer thread of a [`LogStore`]. Dropping it asks the thread to end.
pub struct LogHandle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").finish_non_exhaustive()
    }
}

impl LogHandle {
    /// How long the flush that is under way has been taking; nothing when none is.
    #[must_use]
    pub fn flush_age(&self) -> Option<Duration> {
        self.shared.state.lock().flush_began.map(|began| began.elapsed())
    }

    /// Why the log takes nothing more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.state.lock().failed.clone()
    }

    /// Lets the writer finish what is queued, and waits for it. Blocks as long as the disk does.
    pub fn close(mut self) {
        self.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn signal(&self) {
        self.shared.state.lock().stop = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.signal();
    }
}

impl LogStore {
    /// Opens the log in `config.dir`, or begins one; repairs a torn tail.
    ///
    /// # Errors
    /// When the disk fails, or a record that was durable is damaged: the error names file and offset, and
    /// the node must not start.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, LogHandle), OpenError> {
        let seed = record::seed(config.store);
        let recovered = recovery::recover(&*disk, &config, seed)?;
        let state = State {
            index: recovered.index,
            queue: Queue::default(),
            next_seq: recovered.next_seq,
            durable_seq: recovered.next_seq,
            failed: None,
            stop: false,
            flush_began: None,
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), room: Notify::new(), seed });
        let writer = writer::Writer::new(shared.clone(), disk, config, recovered.segments);
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { what: "starting the writer thread".into(), source })?;
        Ok((Self { shared: shared.clone() }, LogHandle { shared, thread: Some(thread) }))
    }

    async fn wait_for_room(&self) {
        loop {
            let room = self.shared.room.notified();
            {
                let state = self.shared.state.lock();
                if state.queue.bytes.len() < QUEUE_BYTES || state.failed.is_some() {
                    return;
                }
            }
            room.await;
        }
    }
}

/// Reads entries and the vote; any number may exist.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").finish_non_exhaustive()
    }
}

impl LogReader {
    fn read(&self, range: impl RangeBounds<u64>, limit_bytes: usize) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&n) => n.saturating_add(1),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.shared.state.lock().index.range(from, to, limit_bytes);
        // Outside the lock: a segment that is purged meanwhile stays readable through its open file.
        found
            .into_iter()
            .map(|stored| match stored {
                Stored::Cached(entry) => Ok(entry),
                Stored::OnDisk(place) => record::read_entry(&place, self.shared.seed),
            })
            .collect()
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().index.marks.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.index.marks.purged, last_log_id: state.index.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            self.shared.push(&mut state, Kind::Vote, |out| codec::put_vote(out, vote))?;
            state.index.marks.vote = Some(*vote);
            state.queue.waiters.push(Waiter::Vote(done));
            state.queue.flush = true;
        }
        self.shared.wake.notify_one();
        durable.await.unwrap_or_else(|_| Err(failed("the writer ended")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            self.shared.push(&mut state, Kind::Committed, |out| {
                codec::put_log_id_option(out, committed.as_ref());
            })?;
            state.index.marks.committed = committed;
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().index.marks.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.wait_for_room().await;
        {
            let mut state = self.shared.state.lock();
            for entry in entries {
                let mut encoded = Ok(());
                let (at, bytes) = self.shared.push(&mut state, Kind::Entry, |out| {
                    encoded = codec::put_entry(out, &entry);
                })?;
                encoded?;
                state.queue.entries.push(queue::QueuedEntry { log_id: entry.log_id, at, bytes });
                state.index.push(entry, bytes);
            }
            state.queue.waiters.push(Waiter::Append(callback));
            state.queue.flush = true;
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        self.shared.push(&mut state, Kind::Truncate, |out| {
            codec::put_log_id_option(out, last_log_id.as_ref());
        })?;
        state.index.truncate_after(last_log_id.map(|id| id.index));
        // Not flushed for by itself: newer entries follow it in the stream, so none can be durable without it.
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            self.shared.push(&mut state, Kind::Purge, |out| codec::put_log_id(out, &log_id))?;
            state.index.purge(log_id);
            state.queue.purged = Some(log_id);
            state.queue.flush = true;
        }
        self.shared.wake.notify_one();
        Ok(())
    }
}
