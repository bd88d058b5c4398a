//! Snapshots as files: framed, checksummed, atomically installed.
//!
//! A file is a header (magic, then what it covers as JSON), chunks of at most 256 KiB each with
//! their length and crc32c, and a closing mark that repeats how much there was. It is written under a
//! temporary name, flushed, renamed and its directory flushed; only then does it count. One snapshot is kept
//! beside the newest. A received snapshot is a partial file named after what it will be, so that a broken
//! transfer goes on where it stopped; every chunk is checked before the state machine sees it.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    disk::{Disk, DiskFile},
    types::{LogId, SnapshotMeta},
};

const MAGIC: &[u8; 8] = b"QBSNAP01";
const CHUNK_BYTES: usize = 256 << 10;
/// Longest head that is believed: a membership of thousands of nodes fits.
const HEAD_BYTES_MAX: usize = 4 << 20;
const KEPT: usize = 2;

/// What a snapshot covers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    pub(crate) meta: SnapshotMeta,
}

/// A finished snapshot file, open for reading.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

/// The directory of snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

fn name_of(last: Option<&LogId>) -> String {
    // Index first, so that names sort by age.
    last.map_or_else(
        || format!("{:016x}-{:016x}-{:016x}.snap", 0, 0, 0),
        |id| format!("{:016x}-{:016x}-{:016x}.snap", id.index, id.leader_id.term, id.leader_id.node_id),
    )
}

impl SnapshotStore {
    /// Opens the directory and removes what was not finished, received parts excepted.
    ///
    /// # Errors
    /// Whatever the disk answers.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> io::Result<Self> {
        for name in disk.list(&dir)? {
            if name.ends_with(".tmp") {
                disk.remove(&dir.join(name))?;
            }
        }
        Ok(Self { disk, dir })
    }

    /// The newest snapshot and what it covers.
    pub(crate) fn newest(&self) -> io::Result<Option<(SnapshotHead, SnapshotFile)>> {
        let names = self.disk.list(&self.dir)?;
        let Some(name) = names.iter().rfind(|name| name.ends_with(".snap")) else { return Ok(None) };
        let file = self.open_file(&self.dir.join(name))?;
        let head = SnapshotReader::new(&file)?.head().clone();
        Ok(Some((head, file)))
    }

    fn open_file(&self, path: &Path) -> io::Result<SnapshotFile> {
        let file = self.disk.open(path)?;
        Ok(SnapshotFile { path: path.into(), bytes: file.bytes()?, file })
    }

    /// Begins a snapshot; it counts only once [`SnapshotWriter::finish`] returns.
    pub(crate) fn begin(&self, head: &SnapshotHead) -> io::Result<SnapshotWriter> {
        let name = name_of(head.meta.last_log_id.as_ref());
        let temporary = self.dir.join(format!("{name}.tmp"));
        let file = self.disk.create(&temporary)?;
        let mut writer = SnapshotWriter {
            store: self.clone(),
            temporary,
            path: self.dir.join(name),
            file,
            at: 0,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            content: 0,
        };
        let json = serde_json::to_vec(head)?;
        writer.put(MAGIC)?;
        writer.put_framed(&json)?;
        Ok(writer)
    }

    /// Makes `file` the newest snapshot here, if it lies elsewhere.
    pub(crate) fn import(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<SnapshotFile> {
        if let Some((head, newest)) = self.newest()?
            && head.meta == *meta
        {
            return Ok(newest);
        }
        let mut partial = self.partial(meta.last_log_id.as_ref(), file.bytes)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while partial.have() < file.bytes {
            let length = usize::try_from(file.bytes - partial.have()).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            file.file.read_at(&mut chunk[..length], partial.have())?;
            partial.push(&chunk[..length])?;
        }
        partial.finish()
    }

    /// Where a transfer of the snapshot that ends at `last` is collected, and how much of it is there.
    pub(crate) fn partial(&self, last: Option<&LogId>, total_bytes: u64) -> io::Result<PartialSnapshot> {
        let name = name_of(last);
        let part = format!("{name}.{total_bytes}.part");
        for other in self.disk.list(&self.dir)? {
            if other.ends_with(".part") && other != part {
                self.disk.remove(&self.dir.join(other))?;
            }
        }
        let path = self.dir.join(&part);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&path)?,
            opened => opened?,
        };
        let have = file.bytes()?.min(total_bytes);
        Ok(PartialSnapshot { store: self.clone(), temporary: path, path: self.dir.join(name), file, have })
    }

    fn adopt(&self, temporary: &Path, path: &Path, file: Arc<dyn DiskFile>) -> io::Result<SnapshotFile> {
        file.sync()?;
        self.disk.rename(temporary, path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(SnapshotFile { path: path.into(), bytes: file.bytes()?, file })
    }

    /// Removes all but the newest snapshots.
    pub(crate) fn remove_old(&self) -> io::Result<()> {
        let names = self.disk.list(&self.dir)?;
        let mut finished: Vec<_> = names.into_iter().filter(|name| name.ends_with(".snap")).collect();
        finished.truncate(finished.len().saturating_sub(KEPT));
        for name in finished {
            self.disk.remove(&self.dir.join(name))?;
        }
        Ok(())
    }
}

/// Takes a snapshot's content as an [`io::Write`].
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    store: SnapshotStore,
    temporary: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    at: u64,
    chunk: Vec<u8>,
    content: u64,
}

impl SnapshotWriter {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn put_framed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(bytes.len() + 8);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        frame.extend_from_slice(bytes);
        self.put(&frame)
    }

    fn flush_chunk(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.put_framed(&chunk)?;
            self.content += chunk.len() as u64;
            self.chunk = chunk;
            self.chunk.clear();
        }
        Ok(())
    }

    /// Makes the snapshot durable and the newest.
    pub(crate) fn finish(mut self) -> io::Result<SnapshotFile> {
        self.flush_chunk()?;
        let total = self.content.to_le_bytes();
        self.put_framed(&[])?;
        self.put_framed(&total)?;
        self.store.adopt(&self.temporary, &self.path, self.file)
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush_chunk()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a snapshot's content as an [`io::Read`], each chunk checked, an early end an error.
#[derive(Debug)]
pub(crate) struct SnapshotReader {
    file: SnapshotFile,
    head: SnapshotHead,
    at: u64,
    chunk: Vec<u8>,
    chunk_at: usize,
    content: u64,
    ended: bool,
}

impl SnapshotReader {
    pub(crate) fn new(file: &SnapshotFile) -> io::Result<Self> {
        let mut magic = [0; 8];
        file.file.read_at(&mut magic, 0)?;
        let mut at = 8;
        if &magic != MAGIC {
            return Err(damaged(file, 0, "not a snapshot"));
        }
        let json = frame(file, &mut at, HEAD_BYTES_MAX)?;
        let head = serde_json::from_slice(&json).map_err(|e| damaged(file, 8, &e.to_string()))?;
        Ok(Self { file: file.clone(), head, at, chunk: Vec::new(), chunk_at: 0, content: 0, ended: false })
    }

    pub(crate) fn head(&self) -> &SnapshotHead {
        &self.head
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        self.chunk = frame(&self.file, &mut self.at, CHUNK_BYTES)?;
        self.chunk_at = 0;
        self.content += self.chunk.len() as u64;
        if self.chunk.is_empty() {
            self.ended = true;
            let total = frame(&self.file, &mut self.at, 8)?;
            if total != self.content.to_le_bytes() {
                return Err(damaged(&self.file, self.at, "length does not match"));
            }
        }
        Ok(())
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk_at == self.chunk.len() && !self.ended {
            self.next_chunk()?;
        }
        let given = out.len().min(self.chunk.len() - self.chunk_at);
        out[..given].copy_from_slice(&self.chunk[self.chunk_at..self.chunk_at + given]);
        self.chunk_at += given;
        Ok(given)
    }
}

fn damaged(file: &SnapshotFile, offset: u64, what: &str) -> io::Error {
    let path = file.path.display();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("snapshot {path} is damaged at offset {offset}: {what}"),
    )
}

fn frame(file: &SnapshotFile, at: &mut u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut head = [0; 8];
    file.file.read_at(&mut head, *at).map_err(|e| damaged(file, *at, &e.to_string()))?;
    let word = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
    let (length, crc) = (word(0) as usize, word(4));
    if length > bytes_max {
        return Err(damaged(file, *at, "a chunk is too long"));
    }
    let mut bytes = vec![0; length];
    file.file.read_at(&mut bytes, *at + 8).map_err(|e| damaged(file, *at, &e.to_string()))?;
    if crc32c::crc32c(&bytes) != crc {
        return Err(damaged(file, *at, "a checksum does not match"));
    }
    *at += 8 + length as u64;
    Ok(bytes)
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct PartialSnapshot {
    store: SnapshotStore,
    temporary: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    have: u64,
}

impl PartialSnapshot {
    /// Bytes that are there already.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.have)?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Checks the whole and makes it the newest snapshot. A damaged one is thrown away, to be sent again.
    pub(crate) fn finish(self) -> io::Result<SnapshotFile> {
        let file = SnapshotFile { path: self.temporary.clone(), file: self.file.clone(), bytes: self.have };
        let checked =
            SnapshotReader::new(&file).and_then(|mut reader| io::copy(&mut reader, &mut io::sink()));
        if let Err(error) = checked {
            self.store.disk.remove(&self.temporary)?;
            return Err(error);
        }
        self.store.adopt(&self.temporary, &self.path, self.file)
    }
}
