//! A disk in memory that loses power.
//!
//! Every operation has a number. At a chosen number the power goes: that operation and all later ones fail,
//! and [`MemoryDisk::after_power_loss`] gives the disk a restarted machine would find: all that was synced,
//! and of the rest any part, cut at sector bounds, in any order across sectors; names that were not synced
//! may be there or not, but never in another order than they were made. Other faults (an I/O error, no
//! space, a stall of one sync) strike the same way, by operation number.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// What goes wrong, and it stays wrong for all later operations except after a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The machine is off.
    PowerLoss,
    /// Writes and syncs fail with `EIO`.
    InputOutput,
    /// Writes fail with `ENOSPC`.
    NoSpace,
    /// The next sync hangs until [`MemoryDisk::resume`].
    Stall,
}

type FileId = u64;

#[derive(Debug, Clone, Default)]
struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Sector numbers whose content differs (or may) from what is durable.
    dirty: std::collections::BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, FileId),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<FileId, Content>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    unsynced_names: Vec<NameChange>,
    next_file: FileId,
    operations: u64,
    fault: Option<(u64, Fault)>,
    stalled: bool,
    sync_time: Duration,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    resumed: Condvar,
}

/// The disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Shared>);

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    id: FileId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Sync,
    Name,
}

impl Inner {
    fn step(&mut self, kind: Kind) -> io::Result<()> {
        self.operations += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        if self.operations < at {
            return Ok(());
        }
        match (fault, kind) {
            (Fault::PowerLoss, _) => Err(io::Error::other("power lost")),
            (Fault::InputOutput, Kind::Write | Kind::Sync) => {
                Err(io::Error::other("input/output error (injected)"))
            }
            (Fault::NoSpace, Kind::Write | Kind::Name) => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "no space left (injected)"))
            }
            (Fault::Stall, Kind::Sync) => {
                self.fault = None;
                self.stalled = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, FileId>, change: &NameChange) {
    match change {
        NameChange::Link(path, id) => {
            names.insert(path.clone(), *id);
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl MemoryDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every sync take this long, as a disk with that flush time would.
    pub fn set_sync_time(&self, time: Duration) {
        self.0.inner.lock().sync_time = time;
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.inner.lock().operations
    }

    /// Syncs of file contents so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.inner.lock().syncs
    }

    /// Lets `fault` strike at operation number `at` (the first has number 1).
    pub fn fail_at(&self, at: u64, fault: Fault) {
        self.0.inner.lock().fault = Some((at, fault));
    }

    /// Lets `fault` strike from the next operation on.
    pub fn fail_now(&self, fault: Fault) {
        let mut inner = self.0.inner.lock();
        inner.fault = Some((inner.operations + 1, fault));
    }

    /// Ends a stall and clears any fault.
    pub fn resume(&self) {
        let mut inner = self.0.inner.lock();
        inner.fault = None;
        inner.stalled = false;
        self.0.resumed.notify_all();
    }

    /// Changes bytes behind everyone's back, durably: what a failing medium does.
    ///
    /// # Panics
    /// When there is no such file or it is shorter.
    pub fn corrupt(&self, path: &Path, offset: usize, byte: u8) {
        let mut inner = self.0.inner.lock();
        let id = inner.names[path];
        let content = inner.files.get_mut(&id).expect("a named file exists");
        content.now[offset] = byte;
        if offset < content.durable.len() {
            content.durable[offset] = byte;
        }
    }

    /// The disk that a machine finds after the power came back. `choice` decides what of the unsynced part
    /// survived: called with a bound, it returns a number below it.
    #[must_use]
    pub fn after_power_loss(&self, mut choice: impl FnMut(u64) -> u64) -> Self {
        let old = self.0.inner.lock();
        let mut names = old.durable_names.clone();
        let survived = choice(old.unsynced_names.len() as u64 + 1);
        for change in old.unsynced_names.iter().take(usize::try_from(survived).unwrap_or(usize::MAX)) {
            apply(&mut names, change);
        }
        let mut files = BTreeMap::new();
        for id in names.values() {
            let Some(content) = old.files.get(id) else { continue };
            let mut kept = content.durable.clone();
            for sector in &content.dirty {
                if choice(2) == 0 {
                    continue;
                }
                let from = sector * SECTOR_BYTES;
                let to = content.now.len().min(from + SECTOR_BYTES);
                if from >= to {
                    continue;
                }
                if kept.len() < to {
                    kept.resize(to, 0);
                }
                kept[from..to].copy_from_slice(&content.now[from..to]);
            }
            files.insert(*id, Content { durable: kept.clone(), now: kept, dirty: Default::default() });
        }
        let inner = Inner {
            files,
            durable_names: names.clone(),
            names,
            next_file: old.next_file,
            sync_time: old.sync_time,
            ..Inner::default()
        };
        Self(Arc::new(Shared { inner: Mutex::new(inner), resumed: Condvar::new() }))
    }

    fn file(&self, id: FileId) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { disk: self.clone(), id })
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.inner.lock();
        let stepped = inner.step(Kind::Write);
        let torn = inner.fault == Some((inner.operations, Fault::PowerLoss));
        if stepped.is_err() && !torn {
            return stepped;
        }
        // A write that the power cut may have got partly to the medium: it is dirty, whatever was answered.
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let content = inner.files.entry(self.id).or_default();
        if content.now.len() < from + bytes.len() {
            content.now.resize(from + bytes.len(), 0);
        }
        content.now[from..from + bytes.len()].copy_from_slice(bytes);
        if !bytes.is_empty() {
            content.dirty.extend(from / SECTOR_BYTES..=(from + bytes.len() - 1) / SECTOR_BYTES);
        }
        stepped
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.inner.lock();
        inner.step(Kind::Read)?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let content = inner.files.entry(self.id).or_default();
        let source = content.now.get(from..from + bytes.len());
        bytes.copy_from_slice(source.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.0.inner.lock();
        inner.step(Kind::Sync)?;
        while inner.stalled {
            self.disk.0.resumed.wait(&mut inner);
        }
        if !inner.sync_time.is_zero() {
            let time = inner.sync_time;
            parking_lot::MutexGuard::unlocked(&mut inner, || std::thread::sleep(time));
        }
        inner.syncs += 1;
        let content = inner.files.entry(self.id).or_default();
        let Content { durable, now, dirty } = content;
        durable.resize(now.len(), 0);
        for sector in std::mem::take(dirty) {
            let from = sector * SECTOR_BYTES;
            let to = now.len().min(from + SECTOR_BYTES);
            durable[from..to].copy_from_slice(&now[from..to]);
        }
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut inner = self.disk.0.inner.lock();
        inner.step(Kind::Read)?;
        Ok(inner.files.entry(self.id).or_default().now.len() as u64)
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Name)?;
        inner.next_file += 1;
        let id = inner.next_file;
        inner.files.insert(id, Content::default());
        inner.names.insert(path.into(), id);
        inner.unsynced_names.push(NameChange::Link(path.into(), id));
        drop(inner);
        Ok(self.file(id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Read)?;
        let id = *inner.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        drop(inner);
        Ok(self.file(id))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Read)?;
        let in_dir = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(in_dir.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Name)?;
        let id = inner.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        inner.names.insert(to.into(), id);
        inner.unsynced_names.push(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Name)?;
        inner.names.remove(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        inner.unsynced_names.push(NameChange::Unlink(path.into()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut inner = self.0.inner.lock();
        inner.step(Kind::Sync)?;
        let changes = std::mem::take(&mut inner.unsynced_names);
        for change in &changes {
            apply(&mut inner.durable_names, change);
        }
        Ok(())
    }
}
