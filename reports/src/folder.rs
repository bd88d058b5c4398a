//! The folder of a run: `<root>/<utc>-<profile>-<short id>/`.
//!
//! While a run goes on its folder is called `.<id>.partial`; [`RunFolder::finish`] renames it and points
//! `<root>/latest` at it. Every file is written under a temporary name and renamed, so a reader never sees half a
//! file, and what a killed run left behind opens and renders like any other record, marked partial.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{
    histograms::{Histograms, HlogError},
    record::{FORMAT, Run},
};

/// Name of the record in the folder.
pub const RECORD_FILE: &str = "result.json";
/// Name of the histogram log in the folder.
pub const HISTOGRAMS_FILE: &str = "histograms.hlog";
/// Name of the report in the folder.
pub const REPORT_FILE: &str = "index.html";
/// Name of the log in the folder.
pub const LOG_FILE: &str = "log.txt";

/// Longest part of a profile's name that goes into a folder's name.
const PROFILE_NAME_MAX: usize = 40;
/// Largest `result.json` that is read; a day at one window per second stays far below.
const RECORD_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A run's folder, being written or opened for reading.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    id: String,
    partial: bool,
}

/// What can go wrong with a run's folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file or folder could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, for instance `cannot write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("{} does not exist; give a run's folder or its result.json", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder without a record.
    #[error("{} holds no result.json, so it is no run's folder (or the run was killed before its first trial)", path.display())]
    NoRecord {
        /// The folder.
        path: PathBuf,
    },
    /// The record is no JSON, or not that of a run.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line of the first offence, from 1.
        line: usize,
        /// Column of the first offence, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A record of another major version.
    #[error("{} has format \"{found}\"; this version reads \"{FORMAT}\"", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What its `format` key says.
        found: String,
    },
    /// The histogram log is damaged.
    #[error("{}: {source}", path.display())]
    Histograms {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: HlogError,
    },
    /// The finished folder's name is taken.
    #[error("{} exists already; a run never overwrites another", path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// A name that would leave the folder.
    #[error("\"{name}\" is no file name inside a run's folder")]
    Name {
        /// The name.
        name: String,
    },
}

impl RunFolder {
    /// The id of a run: time, profile and a short id, all safe as a file name.
    pub fn id_of(started_at: Timestamp, profile: &str, short_id: &str) -> String {
        let safe = |text: &str| -> String {
            let name: String = text
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
                .take(PROFILE_NAME_MAX)
                .collect();
            if name.is_empty() { "unnamed".to_owned() } else { name }
        };
        format!("{}-{}-{}", started_at.strftime("%Y%m%dT%H%M%SZ"), safe(profile), safe(short_id))
    }

    /// Makes the folder of a run that starts now, under its partial name.
    ///
    /// # Errors
    /// When the folder cannot be made or the id is taken.
    pub fn create(root: &Path, id: &str) -> Result<Self, FolderError> {
        check_name(id)?;
        fs::create_dir_all(root).map_err(io_error("cannot make", root))?;
        let finished = root.join(id);
        let path = root.join(format!(".{id}.partial"));
        for taken in [&finished, &path] {
            if taken.exists() {
                return Err(FolderError::Exists { path: taken.clone() });
            }
        }
        fs::create_dir(&path).map_err(io_error("cannot make", &path))?;
        Ok(Self { path, id: id.to_owned(), partial: true })
    }

    /// Opens the folder of a run that has been, by the folder's path or that of its `result.json`.
    ///
    /// # Errors
    /// When nothing is there or it holds no record.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => FolderError::Missing { path: path.to_owned() },
            _ => FolderError::Io { action: "cannot open", path: path.to_owned(), source },
        })?;
        let folder = if metadata.is_dir() {
            path.to_owned()
        } else {
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            }
        };
        let folder = folder.canonicalize().map_err(io_error("cannot open", &folder))?;
        if !folder.join(RECORD_FILE).is_file() {
            return Err(FolderError::NoRecord { path: folder });
        }
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (id, partial) = match name.strip_prefix('.').and_then(|n| n.strip_suffix(".partial")) {
            Some(id) => (id.to_owned(), true),
            None => (name, false),
        };
        Ok(Self { path: folder, id, partial })
    }

    /// Where it is now; [`Self::finish`] changes it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id, which becomes the folder's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the run has not finished (or never will).
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Writes a file of the folder, whole or not at all. `name` may name one folder level (`charts/a.svg`).
    ///
    /// # Errors
    /// When the name leaves the folder or the file cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, FolderError> {
        for part in name.split('/') {
            check_name(part)?;
        }
        let target = self.path.join(name);
        let parent = target.parent().unwrap_or(&self.path);
        fs::create_dir_all(parent).map_err(io_error("cannot make", parent))?;
        write_whole(&target, content)?;
        Ok(target)
    }

    /// Writes `result.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, run: &Run) -> Result<PathBuf, FolderError> {
        let mut json = serde_json::to_vec_pretty(run).map_err(|source| FolderError::Io {
            action: "cannot encode",
            path: self.path.join(RECORD_FILE),
            source: source.into(),
        })?;
        json.push(b'\n');
        self.write(RECORD_FILE, &json)
    }

    /// Writes `histograms.hlog` with the run's start as its base time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_histograms(
        &self,
        histograms: &Histograms,
        started_at: Timestamp,
    ) -> Result<PathBuf, FolderError> {
        let path = self.path.join(HISTOGRAMS_FILE);
        let text =
            histograms.to_hlog(started_at).map_err(|source| FolderError::Histograms { path, source })?;
        self.write(HISTOGRAMS_FILE, text.as_bytes())
    }

    /// Opens `log.txt` for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn log_file(&self) -> Result<File, FolderError> {
        let path = self.path.join(LOG_FILE);
        File::options().create(true).append(true).open(&path).map_err(io_error("cannot open", &path))
    }

    /// Where a server of this run writes its logs: `logs/<subject>/trial-<n>`, made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn server_logs(&self, subject: &str, trial: u32) -> Result<PathBuf, FolderError> {
        check_name(subject)?;
        let path = self.path.join("logs").join(subject).join(format!("trial-{trial}"));
        fs::create_dir_all(&path).map_err(io_error("cannot make", &path))?;
        Ok(path)
    }

    /// Gives the folder its final name and points `latest` at it.
    ///
    /// # Errors
    /// When the name is taken or renaming fails; the folder is then still there under its partial name.
    pub fn finish(mut self) -> Result<Self, FolderError> {
        if !self.partial {
            return Ok(self);
        }
        let root = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let target = root.join(&self.id);
        if target.exists() {
            return Err(FolderError::Exists { path: target });
        }
        fs::rename(&self.path, &target).map_err(io_error("cannot rename", &self.path))?;
        self.path = target;
        self.partial = false;
        point_latest(&root, &self.id)?;
        Ok(self)
    }

    /// Reads `result.json`; the record of an unfinished folder comes back marked partial.
    ///
    /// # Errors
    /// Names the line and column of what is wrong, or both versions.
    pub fn record(&self) -> Result<Run, FolderError> {
        let mut run = read_record(&self.path.join(RECORD_FILE))?;
        if self.partial {
            run.partial = true;
        }
        Ok(run)
    }

    /// Reads `histograms.hlog`; empty when the run was killed before it was written.
    ///
    /// # Errors
    /// Names the line of what is wrong.
    pub fn histograms(&self) -> Result<Histograms, FolderError> {
        let path = self.path.join(HISTOGRAMS_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                Histograms::from_hlog(&text).map_err(|source| FolderError::Histograms { path, source })
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Histograms::default()),
            Err(source) => Err(FolderError::Io { action: "cannot read", path, source }),
        }
    }
}

/// Reads a record by the path of its JSON.
///
/// # Errors
/// Names the line and column of what is wrong, or both versions.
pub fn read_record(path: &Path) -> Result<Run, FolderError> {
    let size = fs::metadata(path).map_err(io_error("cannot read", path))?.len();
    if size > RECORD_BYTES_MAX {
        let source = io::Error::other(format!("{size} bytes; a record has at most {RECORD_BYTES_MAX}"));
        return Err(FolderError::Io { action: "cannot read", path: path.to_owned(), source });
    }
    let text = fs::read_to_string(path).map_err(io_error("cannot read", path))?;
    let malformed = |error: &serde_json::Error| FolderError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: plain_message(error),
    };
    // The version is looked at first: a record of another version may well lack keys of this one.
    let head: Head = serde_json::from_str(&text).map_err(|error| malformed(&error))?;
    if head.format != FORMAT {
        return Err(FolderError::Format { path: path.to_owned(), found: head.format });
    }
    serde_json::from_str(&text).map_err(|error| malformed(&error))
}

#[derive(serde::Deserialize)]
struct Head {
    format: String,
}

/// serde_json's message without the position, which the error states itself.
fn plain_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn check_name(name: &str) -> Result<(), FolderError> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
    if plain { Ok(()) } else { Err(FolderError::Name { name: name.to_owned() }) }
}

fn write_whole(target: &Path, content: &[u8]) -> Result<(), FolderError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io_error("cannot write", target))
}

/// `latest` is replaced in one rename, so it points at a whole folder at any moment.
fn point_latest(root: &Path, id: &str) -> Result<(), FolderError> {
    let temporary = root.join(format!(".latest.{}.tmp", std::process::id()));
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(id, &temporary).map_err(io_error("cannot link", &temporary))?;
    let latest = root.join("latest");
    fs::rename(&temporary, &latest).map_err(|source| {
        let _ = fs::remove_file(&temporary);
        FolderError::Io { action: "cannot link", path: latest, source }
    })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
