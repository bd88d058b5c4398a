//! What a killed run leaves behind, and how the next start finds it.
//!
//! Each native server has a record in `<cache>/run/`: which process started it, which process it is, and
//! which temporary directory it uses. A process is named by its pid and its start time, and the machine by
//! its boot and pid namespace, so that a reused pid is never mistaken for an orphan. [`sweep`] kills
//! servers whose owner is gone and removes their directories; records of living owners are left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// One process, for as long as this machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

impl ProcessId {
    /// The living process of this pid.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        (stat.state != 'Z' && stat.state != 'X').then_some(Self { pid, start_ticks: stat.starttime })
    }

    pub(crate) fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Names this boot of this machine and this pid namespace: where a [`ProcessId`] means something.
pub(crate) fn host() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// This process and everything that it started, directly or not, as `/proc` shows it now.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| process.ok()?.stat().ok())
        .map(|stat| (stat.pid, stat.ppid))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(pid, of)| *of == parent && *pid != parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Whether every thread of this process is stopped, or it is gone.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let Ok(tasks) = Process::new(pid).and_then(|process| process.tasks()) else { return true };
    tasks
        .flatten()
        .filter_map(|task| task.stat().ok())
        .all(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    run: String,
    host: String,
    owner: ProcessId,
    server: Option<ProcessId>,
    temporary: Option<PathBuf>,
}

/// The record of one server; removed when dropped, after the server was stopped.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    entry: Entry,
}

impl Record {
    /// Writes the record before the server is started, so that no moment is uncovered.
    pub(crate) fn new(cache: &Path, run: &str, name: &str, temporary: Option<PathBuf>) -> io::Result<Self> {
        let directory = cache.join("run");
        fs::create_dir_all(&directory)?;
        let owner = ProcessId::own().ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        let record = Self {
            path: directory.join(format!("{name}.json")),
            entry: Entry { run: run.to_owned(), host: host(), owner, server: None, temporary },
        };
        record.write()?;
        Ok(record)
    }

    pub(crate) fn set_server(&mut self, pid: i32) -> io::Result<()> {
        self.entry.server = ProcessId::of(pid);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(&self.entry)?)?;
        fs::rename(temporary, &self.path)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Kills and removes what dead owners left in `cache`; returns one sentence per server found.
pub(crate) fn sweep(cache: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cache.join("run")) else { return Vec::new() };
    let host = host();
    let mut swept = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(entry) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok())
        else {
            continue;
        };
        let same_boot = entry.host.split(' ').next() == host.split(' ').next();
        let foreign_namespace = same_boot && entry.host != host;
        if foreign_namespace || (same_boot && entry.owner.is_alive()) {
            continue;
        }
        if same_boot && let Some(server) = entry.server.filter(|server| server.is_alive()) {
            if let Some(pid) = Pid::from_raw(server.pid) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            swept.push(format!("killed server {} of run {}", server.pid, entry.run));
        }
        if let Some(directory) = entry.temporary.filter(|directory| directory.is_dir()) {
            if fs::remove_dir_all(&directory).is_err() {
                // Something still writes there; the record stays for the next sweep.
                continue;
            }
            swept.push(format!("removed {} of run {}", directory.display(), entry.run));
        }
        let _ = fs::remove_file(path);
    }
    swept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_keeps_its_record_and_a_reused_pid_does_not() {
        let cache = tempfile::tempdir().unwrap();
        let kept = tempfile::tempdir().unwrap();
        let record = Record::new(cache.path(), "r", "mine", Some(kept.path().to_owned())).unwrap();
        assert!(sweep(cache.path()).is_empty());
        assert!(record.path.exists() && kept.path().exists());

        let orphan_dir = cache.path().join("orphan-data");
        fs::create_dir(&orphan_dir).unwrap();
        let mut owner = ProcessId::own().unwrap();
        owner.start_ticks += 1;
        let entry = Entry {
            run: "dead".to_owned(),
            host: host(),
            owner,
            server: Some(owner),
            temporary: Some(orphan_dir.clone()),
        };
        let path = cache.path().join("run/orphan.json");
        fs::write(&path, serde_json::to_vec(&entry).unwrap()).unwrap();
        let swept = sweep(cache.path());
        assert_eq!(swept.len(), 1, "{swept:?}");
        assert!(!path.exists() && !orphan_dir.exists());
        assert!(record.path.exists());
    }

    #[test]
    fn records_of_another_pid_namespace_are_left_alone() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir(cache.path().join("run")).unwrap();
        let owner = ProcessId { pid: i32::MAX, start_ticks: 1 };
        let entry = Entry {
            run: "elsewhere".to_owned(),
            host: format!("{}x", host()),
            owner,
            server: None,
            temporary: None,
        };
        let path = cache.path().join("run/elsewhere.json");
        fs::write(&path, serde_json::to_vec(&entry).unwrap()).unwrap();
        assert!(sweep(cache.path()).is_empty());
        assert!(path.exists());
    }
}
