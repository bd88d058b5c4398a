//! The writer thread: takes everything queued, writes it with one call, flushes once, tells all that wait.
//!
//! It ends when asked to, after writing what is queued, or at the first error, which it hands to everyone who
//! waits and leaves in the shared state so that nothing is taken afterwards. The next segment is prepared on
//! a second thread while the current one fills.

use std::{io, path::PathBuf, sync::Arc, thread::JoinHandle, time::Instant};

use super::{
    LogConfig, Shared,
    index::Marks,
    queue::{Queue, Waiter},
    record::Place,
    recovery::Segments,
    segment::{self, HEADER_BYTES, Header, Segment},
};
use crate::raft::disk::{Disk, DiskFile};

/// Segments up to this size are prepared when needed rather than ahead.
const PREPARE_AHEAD_BYTES: u64 = 4 << 20;

pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    config: LogConfig,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    end: u64,
    /// Marks and record number as of what is written.
    written: (Marks, u64),
    unflushed: bool,
    spare: Option<JoinHandle<io::Result<Arc<dyn DiskFile>>>>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, config: LogConfig, found: Segments) -> Self {
        let written = {
            let state = shared.state.lock();
            (state.index.marks, state.next_seq)
        };
        Self {
            shared,
            disk,
            config,
            segments: found.all,
            end: found.end,
            written,
            unflushed: false,
            spare: None,
        }
    }

    pub(super) fn run(mut self) {
        self.prepare_ahead();
        loop {
            let (batch, after) = {
                let mut state = self.shared.state.lock();
                while state.queue.bytes.is_empty() && !state.stop {
                    self.shared.wake.wait(&mut state);
                }
                if state.queue.bytes.is_empty() {
                    break;
                }
                if state.queue.flush {
                    state.flush_began = Some(Instant::now());
                }
                let batch = std::mem::take(&mut state.queue);
                (batch, (state.index.marks, state.next_seq))
            };
            self.shared.room.notify_waiters();
            if let Err(error) = self.take(batch, after) {
                tracing::error!(%error, dir = %self.config.dir.display(), "the log failed");
                self.fail(&error.to_string(), Vec::new());
                break;
            }
        }
        if let Some(spare) = self.spare.take() {
            let _ = spare.join();
        }
    }

    /// Refuses everything from now on, and tells all that wait.
    fn fail(&self, reason: &str, mut waiters: Vec<Waiter>) {
        let mut state = self.shared.state.lock();
        state.failed.get_or_insert_with(|| reason.to_owned());
        state.flush_began = None;
        waiters.append(&mut state.queue.waiters);
        drop(state);
        for waiter in waiters {
            waiter.tell(Err(io::Error::other(reason.to_owned())));
        }
        self.shared.room.notify_waiters();
    }

    fn take(&mut self, mut batch: Queue, after: (Marks, u64)) -> io::Result<()> {
        let waiters = std::mem::take(&mut batch.waiters);
        let places = match self.write(&batch) {
            Ok(places) => places,
            Err(error) => {
                self.fail(&error.to_string(), waiters);
                return Err(error);
            }
        };
        {
            let mut state = self.shared.state.lock();
            state.flush_began = None;
            for (entry, place) in batch.entries.iter().zip(places) {
                state.index.placed(entry.log_id, place);
            }
            state.index.shrink();
            if batch.flush {
                state.durable_seq = after.1;
            }
            // The emptied buffer goes back, so that a steady load allocates nothing here.
            if state.queue.bytes.capacity() == 0 {
                batch.bytes.clear();
                batch.bytes.shrink_to(1 << 20);
                state.queue.bytes = std::mem::take(&mut batch.bytes);
            }
        }
        for waiter in waiters {
            waiter.tell(Ok(()));
        }
        self.shared.room.notify_waiters();
        self.written = after;
        if let Some(purged) = batch.purged {
            self.remove_upto(purged.index)?;
        }
        Ok(())
    }

    fn write(&mut self, batch: &Queue) -> io::Result<Vec<Place>> {
        if self.end > HEADER_BYTES && self.end + batch.bytes.len() as u64 > self.config.segment_bytes {
            self.rotate()?;
        }
        let Some(segment) = self.segments.last_mut() else {
            return Err(io::Error::other("the log has no segment"));
        };
        let began = Instant::now();
        segment.file.write_at(&batch.bytes, self.end)?;
        if batch.flush {
            segment.file.sync()?;
            self.unflushed = false;
            metrics::histogram!("raft_log_flush_seconds").record(began.elapsed());
            #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 records and bytes")]
            {
                metrics::histogram!("raft_log_flush_entries").record(batch.entries.len() as f64);
                metrics::histogram!("raft_log_flush_bytes").record(batch.bytes.len() as f64);
            }
        } else {
            self.unflushed = true;
        }
        segment.last_index =
            segment.last_index.max(batch.entries.iter().map(|entry| entry.log_id.index).max());
        let places = batch.entries.iter().map(|entry| Place {
            file: segment.file.clone(),
            offset: self.end + entry.at as u64,
            bytes: entry.bytes,
        });
        let places = places.collect();
        self.end += batch.bytes.len() as u64;
        Ok(places)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(last) = self.segments.last() else { return Err(io::Error::other("the log has no segment")) };
        if self.unflushed {
            last.file.sync()?;
            self.unflushed = false;
        }
        let number = last.number + 1;
        let file = match self.spare.take() {
            Some(spare) => spare.join().map_err(|_| io::Error::other("preparing a segment panicked"))??,
            None => segment::prepare(&*self.disk, &self.config.dir, self.config.segment_bytes)?,
        };
        let header = Header { number, first_seq: self.written.1, marks: self.written.0 };
        self.segments.push(segment::begin(&*self.disk, &self.config.dir, file, &header, self.shared.seed)?);
        self.end = HEADER_BYTES;
        self.prepare_ahead();
        Ok(())
    }

    fn prepare_ahead(&mut self) {
        if self.config.segment_bytes <= PREPARE_AHEAD_BYTES {
            return;
        }
        let (disk, dir, bytes): (_, PathBuf, _) =
            (self.disk.clone(), self.config.dir.clone(), self.config.segment_bytes);
        let prepare = move || segment::prepare(&*disk, &dir, bytes);
        // Without a second thread the segment is prepared when it is needed.
        self.spare = std::thread::Builder::new().name("raft-log-next".into()).spawn(prepare).ok();
    }

    /// Removes segments whose entries are all purged. The purge itself is durable by now.
    fn remove_upto(&mut self, index: u64) -> io::Result<()> {
        let removable = |segment: &Segment| segment.last_index.is_none_or(|last| last <= index);
        let count = self.segments.iter().take(self.segments.len() - 1).take_while(|s| removable(s)).count();
        for segment in self.segments.drain(..count) {
            self.disk.remove(&segment.path)?;
        }
        if count > 0 {
            self.disk.sync_dir(&self.config.dir)?;
        }
        Ok(())
    }
}
