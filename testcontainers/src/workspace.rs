//! What one start needs on disk: a configuration, room for data, a log file, and the record that lets a
//! later start clean up. The same for a child process and for a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, Provisioner};
use crate::error::{LogTail, StartError};
use crate::log;
use crate::options::StartOptions;
use crate::orphans::Record;
use crate::server::{Layout, etcd, kafka, kv, nats};

/// How long a server's statement of its version may come after its being ready.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// The files of one server. Dropping it removes what is temporary; the server must have ended before.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) backend: Backend,
    pub(crate) provisioner: Provisioner,
    /// A name that no other start has.
    pub(crate) unique_name: String,
    /// The name or cluster id that the server is given.
    pub(crate) identity: String,
    pub(crate) config_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    log_is_kept: bool,
    pub(crate) record: Record,
    temporary: TempDir,
}

impl Workspace {
    pub(crate) fn new(
        backend: Backend,
        provisioner: Provisioner,
        options: &StartOptions,
    ) -> Result<Self, StartError> {
        let name = options.name.as_deref().unwrap_or(backend.name());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(StartError::Option {
                option: "name",
                reason: format!("`{name}` is a part of file names: letters, digits, `-`, `_` and `.` only"),
            });
        }
        let id = crate::start::unique();
        let temporary = TempDir::with_prefix(format!("queuebench-{name}-"))
            .map_err(StartError::io("create a temporary directory"))?;
        let root = temporary.path().to_owned();
        let unique_name = format!("{name}-{id:032x}");
        let record = Record::new(&options.cache_dir, &options.run_label, &unique_name, Some(root.clone()))
            .map_err(StartError::io(format!("write a record in {}", options.cache_dir.display())))?;
        let config_dir = root.join("config");
        let data_dir = absolute(options.data_dir.as_deref().unwrap_or(&root.join("data")))?;
        let log_dir = options.log_dir.clone().unwrap_or_else(|| root.clone());
        for directory in [&config_dir, &data_dir, &log_dir] {
            fs::create_dir_all(directory)
                .map_err(StartError::io(format!("create {}", directory.display())))?;
        }
        Ok(Self {
            backend,
            provisioner,
            unique_name,
            identity: identity(backend, id, &data_dir),
            config_dir,
            data_dir,
            log: log_dir.join(format!("{name}.log")),
            log_is_kept: options.log_dir.is_some(),
            record,
            temporary,
        })
    }

    /// Writes the configuration and returns it, file by file.
    pub(crate) fn configure(&self, layout: &Layout) -> Result<Vec<(String, String)>, StartError> {
        let files = match self.backend {
            Backend::Nats => vec![(nats::CONFIG_FILE, nats::config(layout))],
            Backend::Etcd => vec![(etcd::CONFIG_FILE, etcd::config(layout))],
            Backend::Kv => vec![(kv::CONFIG_FILE, kv::config(layout))],
            Backend::Kafka => vec![
                (kafka::CONFIG_FILE, kafka::config(layout)),
                (kafka::LOG_CONFIG_FILE, kafka::log_config().to_owned()),
            ],
        };
        for (file, text) in &files {
            let path = self.config_dir.join(file);
            fs::write(&path, text).map_err(StartError::io(format!("write {}", path.display())))?;
        }
        Ok(files.into_iter().map(|(file, text)| (file.to_owned(), text)).collect())
    }

    /// How much of the log there is.
    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// The version that the server wrote into its log after `from`; empty if it does not.
    pub(crate) async fn version_in_log(&self, from: u64) -> String {
        let deadline = Instant::now() + VERSION_LIMIT;
        loop {
            let bytes = fs::read(&self.log).unwrap_or_default();
            let start = usize::try_from(from).ok().filter(|&start| start <= bytes.len()).unwrap_or(0);
            match kafka::version_in_log(&String::from_utf8_lossy(&bytes[start..])) {
                Some(version) => return version,
                None if Instant::now() >= deadline => return String::new(),
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub(crate) fn tail(&self) -> LogTail {
        log::tail(&self.log, self.log_is_kept)
    }

    pub(crate) fn exited(&self, status: String) -> StartError {
        StartError::Exited { backend: self.backend, provisioner: self.provisioner, status, tail: self.tail() }
    }

    pub(crate) fn not_ready(&self, address: String, waited: Duration, last: &str) -> StartError {
        StartError::NotReady {
            backend: self.backend,
            provisioner: self.provisioner,
            address,
            waited,
            last: last.to_owned(),
            tail: self.tail(),
        }
    }

    /// Removes what is temporary, away from the runtime's threads: much data takes a while to unlink.
    pub(crate) async fn remove(self) {
        let Self { record, temporary, .. } = self;
        let _ = tokio::task::spawn_blocking(move || {
            let _ = temporary.close();
            drop(record);
        })
        .await;
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path).map_err(StartError::io(format!("resolve {}", path.display())))
}

/// A Kafka data directory that was formatted before keeps its cluster id.
fn identity(backend: Backend, id: u128, data_dir: &Path) -> String {
    match backend {
        Backend::Nats | Backend::Etcd | Backend::Kv => format!("queuebench-{id:032x}"),
        Backend::Kafka => formatted_as(data_dir).unwrap_or_else(|| kafka::cluster_id(id)),
    }
}

fn formatted_as(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join("meta.properties")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("cluster.id=").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formatted_directory_keeps_its_cluster() {
        let data = tempfile::tempdir().unwrap();
        assert_ne!(identity(Backend::Kafka, 1, data.path()), identity(Backend::Kafka, 2, data.path()));
        fs::write(data.path().join("meta.properties"), "#\nnode.id=1\ncluster.id=abc\n").unwrap();
        assert_eq!(identity(Backend::Kafka, 1, data.path()), "abc");
    }

    #[test]
    fn a_name_is_not_a_path() {
        let cache = tempfile::tempdir().unwrap();
        let options = StartOptions {
            name: Some("../escape".to_owned()),
            cache_dir: cache.path().to_owned(),
            ..StartOptions::default()
        };
        let error = Workspace::new(Backend::Nats, Provisioner::Native, &options).unwrap_err();
        assert!(matches!(error, StartError::Option { option: "name", .. }), "{error}");
    }
}
