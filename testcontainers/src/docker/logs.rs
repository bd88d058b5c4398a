//! Copies a container's log into a file for as long as the container runs.

use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the last lines may take to arrive after the container has ended.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(3);

/// The copier of one life of a container; ended with it.
#[derive(Debug)]
pub(crate) struct LogCopy(JoinHandle<u64>);

impl LogCopy {
    /// Appends what container `id` prints to `file`. The engine keeps the log across restarts and gives it
    /// from its beginning, so the `skip` bytes of earlier lives are left out.
    pub(crate) fn start(docker: Docker, id: String, file: PathBuf, skip: u64) -> Self {
        Self(tokio::spawn(async move {
            let options = LogsOptions {
                follow: true,
                stdout: true,
                stderr: true,
                tail: "all".to_owned(),
                ..LogsOptions::default()
            };
            let mut frames = std::pin::pin!(docker.logs(&id, Some(options)));
            let Ok(mut output) = OpenOptions::new().create(true).append(true).open(&file).await else {
                tracing::warn!(file = %file.display(), "the container's log cannot be written");
                return skip;
            };
            let mut seen = 0_u64;
            while let Some(Ok(frame)) = frames.next().await {
                let bytes = frame.into_bytes();
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let known = usize::try_from(skip.saturating_sub(seen).min(length)).unwrap_or(bytes.len());
                seen = seen.saturating_add(length);
                if output.write_all(&bytes[known..]).await.is_err() || output.flush().await.is_err() {
                    break;
                }
            }
            seen
        }))
    }

    /// Waits for the last lines of a container that has ended; returns how much it printed in all its lives.
    pub(crate) async fn finish(mut self) -> u64 {
        match timeout(LAST_LINES_LIMIT, &mut self.0).await {
            Ok(Ok(seen)) => seen,
            _ => 0,
        }
    }
}

impl Drop for LogCopy {
    fn drop(&mut self) {
        self.0.abort();
    }
}
