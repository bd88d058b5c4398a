//! The process of one shard: started, watched, and read when it is done.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use queuebench_reports::histograms::Histograms;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::sampler::{Sampler, SubjectUsage};
use crate::event::Event;
use crate::plan::Shard;
use crate::shard::{self, ShardResult, ShardSpec};
use crate::ui::TrialBar;

/// A shard under way.
pub(super) struct ShardProcess {
    child: Child,
    out: PathBuf,
    time_limit: Duration,
}

/// What a shard's process left.
pub(super) struct Finished {
    pub(super) result: ShardResult,
    pub(super) histograms: Histograms,
    pub(super) usage: SubjectUsage,
    pub(super) warnings: Vec<String>,
}

/// Why a shard's process left nothing.
#[derive(Debug, thiserror::Error)]
pub enum ShardFailure {
    /// It said why.
    #[error("{0}")]
    Failed(String),
    /// It took longer than its plan can explain.
    #[error("it did not end within {0:?} and was killed")]
    TimeLimit(Duration),
}

/// Beyond the planned duration: connecting, overrun, catching up, draining, closing.
const SLACK: Duration = Duration::from_secs(120);
/// After a stop signal.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// The last words of a failed process that are kept.
const LAST_WORDS_BYTES: usize = 4_096;

impl ShardProcess {
    /// Starts `queuebench shard` for `spec`, in a process group of its own: a Ctrl-C in the terminal is the
    /// runner's to pass on. The process asks the kernel to end it with its parent.
    pub(super) fn start(spec: &ShardSpec, shard: Shard, out: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let spec_path = out.join("spec.json");
        write_private(&spec_path, &serde_json::to_vec(spec)?)?;
        let program = std::env::current_exe().context("cannot find our own program")?;
        let child = Command::new(program)
            .arg("shard")
            .arg(&spec_path)
            .args(["--index", &shard.index.to_string(), "--of", &shard.of.to_string()])
            .arg("--out")
            .arg(out)
            .arg("--with-parent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a shard's process")?;
        let time_limit = spec.profile.planned_duration() * 2 + spec.profile.drain_deadline.0 * 2 + SLACK;
        Ok(Self { child, out: out.to_owned(), time_limit })
    }

    /// Follows the shard to its end, while `pids` are sampled.
    pub(super) async fn finish(
        mut self,
        bar: &TrialBar,
        pids: &[i32],
        stop: &CancellationToken,
    ) -> anyhow::Result<Finished> {
        let stdout = self.child.stdout.take().context("the shard has no output")?;
        let mut stderr = self.child.stderr.take().context("the shard has no output")?;
        let last_words = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut chunk = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
                text.extend_from_slice(&chunk[..n]);
                let excess = text.len().saturating_sub(LAST_WORDS_BYTES);
                text.drain(..excess);
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut lines = BufReader::new(stdout).lines();
        let mut sampler = Sampler::new(pids);
        let mut warnings = Vec::new();
        let deadline = tokio::time::sleep(self.time_limit);
        tokio::pin!(deadline);
        let mut stopping = false;
        let mut sample = tokio::time::interval(Sampler::INTERVAL);
        loop {
            tokio::select! {
                line = lines.next_line() => match line.context("cannot read the shard's events")? {
                    None => break,
                    Some(line) => match serde_json::from_str(&line) {
                        Ok(Event::Warning { text }) => {
                            bar.warn(&text);
                            warnings.push(text);
                        }
                        Ok(event) => {
                            if matches!(event, Event::Started { .. }) {
                                sampler.begin();
                            }
                            bar.event(&event);
                        }
                        Err(error) => tracing::debug!(%error, line, "not an event"),
                    },
                },
                _ = sample.tick() => sampler.sample(),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.terminate();
                    deadline.as_mut().reset(tokio::time::Instant::now() + STOP_LIMIT);
                }
                () = &mut deadline => {
                    self.child.kill().await.context("cannot kill the shard's process")?;
                    return Err(ShardFailure::TimeLimit(self.time_limit).into());
                }
            }
        }
        sampler.sample();
        let status = self.child.wait().await.context("cannot wait for the shard's process")?;
        let last_words = last_words.await.unwrap_or_default();
        if !status.success() {
            let why =
                if last_words.is_empty() { format!("its process ended with {status}") } else { last_words };
            return Err(ShardFailure::Failed(why).into());
        }
        let (result, histograms) = shard::read(&self.out)?;
        Ok(Finished { result, histograms, usage: sampler.finish(), warnings })
    }

    /// Asks the shard to end; it drains shortly and leaves what it measured.
    fn terminate(&self) {
        let pid =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// A specification can hold passwords, so only its owner reads it.
fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}
