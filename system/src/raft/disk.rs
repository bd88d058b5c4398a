//! The files under the log and the snapshots, behind a trait.
//!
//! [`RealDisk`] is the file system; [`memory::MemoryDisk`] is one that can lose power at any operation,
//! keeps only what was synced (and any part of the rest), and fails or stalls on demand. Everything that
//! promises durability is written against the traits, so that the same code is tested against both.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

pub mod memory;

/// An open file. Reads and writes name their offset; nothing is durable before [`DiskFile::sync`] returns.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`, growing the file when needed.
    ///
    /// # Errors
    /// Whatever the disk answers; how much was written is then unknown.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before that, else whatever the disk answers.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Returns once the file's content and size survive power loss.
    ///
    /// # Errors
    /// Whatever the disk answers; what is durable is then unknown, and a later success proves nothing.
    fn sync(&self) -> io::Result<()>;
    /// Current size.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn bytes(&self) -> io::Result<u64>;
}

/// A directory tree of such files. Names are durable only after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + Debug + 'static {
    /// Makes a new, empty file for reading and writing; an existing one is emptied.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when there is none, else whatever the disk answers.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Names of the files in a directory, sorted; the directory is made when absent.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns once the directory's names survive power loss.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::create_dir_all(dir)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
