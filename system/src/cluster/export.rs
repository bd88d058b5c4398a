//! `cluster-state.json`: the cluster as people read it, kept beside the log and never read back.
//!
//! Written to a temporary file, synced, renamed, and its directory synced, so that whoever opens it at any
//! time finds a whole one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    state::State,
    view::{Cluster, Show},
};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "cluster-state.json";

/// The export did not reach the disk.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {source}", path.display())]
pub struct ExportError {
    /// Which file.
    pub path: PathBuf,
    /// What happened.
    #[source]
    pub source: io::Error,
}

/// Writes the state into a directory; nothing before the cluster has a name.
///
/// # Errors
///
/// Names the file. The one before it is then still whole.
pub fn write(directory: &Path, state: &State) -> Result<(), ExportError> {
    let Some(cluster) = Cluster::of(state, Show::Everything) else { return Ok(()) };
    let path = directory.join(FILE_NAME);
    let replace = || {
        let temporary = directory.join(format!("{FILE_NAME}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&cluster)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    };
    replace().map_err(|source| ExportError { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{FILE_NAME, write};
    use crate::cluster::{
        command::{ClusterConfig, Command, Operation},
        state::State,
    };

    #[test]
    fn an_export_is_whole_and_replaces_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = State::default();
        write(directory.path(), &state).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing to show yet");
        let cluster_name = "c".to_owned();
        let config = ClusterConfig { cluster_name, partition_count: 16, replication_factor: 3 };
        let init = Command::new(Timestamp::UNIX_EPOCH, Operation::InitCluster(config));
        state.apply(1, &init).outcome.unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "old").unwrap();
        write(directory.path(), &state).unwrap();
        let text = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["config"]["partition_count"], 16);
        assert!(text.contains("\n  \"nodes\": []"), "indented for people: {text}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_directory_that_is_gone_is_named() {
        let mut state = State::default();
        let cluster_name = "c".to_owned();
        let config = ClusterConfig { cluster_name, partition_count: 16, replication_factor: 3 };
        let init = Command::new(Timestamp::UNIX_EPOCH, Operation::InitCluster(config));
        state.apply(1, &init).outcome.unwrap();
        let error = write(std::path::Path::new("/nonexistent/dir"), &state).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/dir/cluster-state.json"));
    }
}
