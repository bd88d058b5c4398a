//! The process of one shard: started, heard, given orders, and waited for.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ensemble::ShardFailure;
use crate::event::{Event, Order};
use crate::plan::Shard;
use crate::shard::ShardSpec;

/// What a shard said; none when it has said its last.
pub(super) type News = (usize, Option<Event>);

/// The last words of a failed process that are kept.
const LAST_WORDS_BYTES: usize = 4_096;

/// A shard under way.
pub(super) struct ShardProcess {
    child: Child,
    orders: Option<ChildStdin>,
    out: PathBuf,
    listener: JoinHandle<()>,
    last_words: JoinHandle<String>,
}

impl ShardProcess {
    /// Starts `queuebench shard` for `spec`, in a process group of its own: a Ctrl-C in the terminal is the
    /// runner's to pass on. The process asks the kernel to end it with its parent. One of several shards waits
    /// for orders.
    pub(super) fn start(
        spec: &ShardSpec,
        shard: Shard,
        out: &Path,
        news: mpsc::Sender<News>,
    ) -> anyhow::Result<Self> {
        let out = if shard.of == 1 { out.to_owned() } else { out.join(shard.index.to_string()) };
        std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        let spec_path = out.join("spec.json");
        write_private(&spec_path, &serde_json::to_vec(spec)?)?;
        let program = std::env::current_exe().context("cannot find our own program")?;
        let mut command = Command::new(program);
        command
            .arg("shard")
            .arg(&spec_path)
            .args(["--index", &shard.index.to_string(), "--of", &shard.of.to_string()])
            .arg("--out")
            .arg(&out)
            .arg("--with-parent");
        if shard.of > 1 {
            command.arg("--conducted").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a shard's process")?;
        let stdout = child.stdout.take().context("the shard has no output")?;
        let stderr = child.stderr.take().context("the shard has no output")?;
        Ok(Self {
            orders: child.stdin.take(),
            child,
            out,
            listener: tokio::spawn(listen(stdout, usize::from(shard.index), news)),
            last_words: tokio::spawn(last_words(stderr)),
        })
    }

    /// Where it leaves its results.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }

    /// Gives it an order. One that has ended needs none.
    pub(super) async fn order(&mut self, order: &Order) {
        let (Some(pipe), Ok(mut line)) = (&mut self.orders, serde_json::to_string(order)) else { return };
        line.push('\n');
        if let Err(error) = pipe.write_all(line.as_bytes()).await {
            tracing::debug!(%error, "a shard takes no more orders");
        }
    }

    /// Asks it to end; it drains shortly and leaves what it measured.
    pub(super) fn terminate(&self) {
        let pid =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Ends it.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the shard's process")
    }

    /// Waits for its end, after it has said its last.
    ///
    /// # Errors
    /// Its last words, when it failed.
    pub(super) async fn wait(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await.context("cannot wait for the shard's process")?;
        let last_words = self.last_words.await.unwrap_or_default();
        // It ends with the pipe that it reads.
        let _ = self.listener.await;
        if status.success() {
            return Ok(());
        }
        let why = if last_words.is_empty() { format!("its process ended with {status}") } else { last_words };
        Err(ShardFailure::Failed(why).into())
    }
}

/// Passes on what a shard says, until it has said its last or nobody listens.
async fn listen(stdout: ChildStdout, index: usize, news: mpsc::Sender<News>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(event) => {
                if news.send((index, Some(event))).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, line, "not an event"),
        }
    }
    let _ = news.send((index, None)).await;
}

async fn last_words(mut stderr: ChildStderr) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
        text.extend_from_slice(&chunk[..n]);
        let excess = text.len().saturating_sub(LAST_WORDS_BYTES);
        text.drain(..excess);
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// A specification can hold passwords, so only its owner reads it.
fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}
