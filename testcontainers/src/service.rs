//! A service of ours as a child process: started, waited for, watched and stopped.
//!
//! Our programs say on standard output where they listen (`ingest listening on http://127.0.0.1:40123`), so
//! they take a free port each and nobody chooses one for them. The child is in a process group of its own and
//! dies with this process. Bounds: the time until it says where it listens, and the time it may take to stop,
//! after which it is killed.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::log;
use crate::native::{Invocation, Process};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(5);
/// Until a killed child is gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How to start a service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Names it in errors and names its log.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Set besides what this process has.
    pub env: Vec<(String, String)>,
    /// Where `<name>.log` is written; appended to.
    pub log_dir: PathBuf,
    /// Until it says where it listens.
    pub time_limit: Duration,
}

/// A service that did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The program cannot be run.
    #[error("cannot run {name}: {source}")]
    Spawn {
        /// Which service.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended instead of listening.
    #[error("{name} ended with {status} before it listened: {last_words}")]
    Exited {
        /// Which service.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
    },
    /// It did not say in time where it listens.
    #[error("{name} did not listen within {waited:?}: {last_words}")]
    NotReady {
        /// Which service.
        name: String,
        /// How long.
        waited: Duration,
        /// The end of its log.
        last_words: String,
    },
    /// It ended, but not cleanly.
    #[error("{name} ended with {status}: {last_words}")]
    Unclean {
        /// Which service.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
    },
    /// It had to be killed.
    #[error("{name} was still running {waited:?} after it was asked to stop, and was killed")]
    Killed {
        /// Which service.
        name: String,
        /// How long.
        waited: Duration,
    },
}

/// A service that listens. Dropped, it is killed.
#[derive(Debug)]
pub struct Service {
    name: String,
    address: String,
    log: PathBuf,
    process: Process,
}

impl Service {
    /// Starts a service and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be run, ends, or does not listen in time.
    pub async fn start(spec: ServiceSpec) -> Result<Self, ServiceError> {
        let ServiceSpec { name, program, args, env, log_dir, time_limit } = spec;
        let failed = |source| ServiceError::Spawn { name: name.clone(), source };
        std::fs::create_dir_all(&log_dir).map_err(failed)?;
        let log = log_dir.join(format!("{name}.log"));
        let from = log.metadata().map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(0));
        let invocation = Invocation { program, args, env, directory: None };
        let process = Process::spawn(&invocation, &log).await.map_err(failed)?;
        let deadline = Instant::now() + time_limit;
        loop {
            if let Some(address) = address_in(&log, from) {
                return Ok(Self { name, address, log, process });
            }
            if let Some(status) = process.status() {
                return Err(ServiceError::Exited { name, status, last_words: last_words(&log) });
            }
            if Instant::now() >= deadline {
                let last_words = last_words(&log);
                return Err(ServiceError::NotReady { name, waited: time_limit, last_words });
            }
            sleep(LOOK).await;
        }
    }

    /// The first URL that it listens on.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Ends it without a word and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(self) -> Result<(), ServiceError> {
        self.signal(Signal::KILL)?;
        match timeout(KILL_LIMIT, self.process.exited()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ServiceError::Killed { name: self.name, waited: KILL_LIMIT }),
        }
    }

    /// Freezes it: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it cannot be reached by a signal.
    pub fn pause(&self) -> Result<(), ServiceError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it cannot be reached by a signal.
    pub fn resume(&self) -> Result<(), ServiceError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), ServiceError> {
        let failed = |source| ServiceError::Spawn { name: self.name.clone(), source };
        self.process.signal(signal).map_err(failed)
    }

    /// Asks it to stop and waits for its end; kills it when `deadline` has passed.
    ///
    /// # Errors
    /// When it did not end by itself in time, or said that something was left undone.
    pub async fn stop(self, deadline: Duration) -> Result<(), ServiceError> {
        self.signal(Signal::TERM)?;
        match timeout(deadline, self.process.exited()).await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let last_words = last_words(&self.log);
                Err(ServiceError::Unclean { name: self.name, status, last_words })
            }
            // Dropping it kills it.
            Err(_) => Err(ServiceError::Killed { name: self.name, waited: deadline }),
        }
    }
}

/// The first URL after the words `listening on`, in what was written behind `from`.
fn address_in(log: &Path, from: usize) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(text.get(from..)?);
    // A line that is still being written has no end yet.
    let (whole, _) = text.rsplit_once('\n')?;
    let (_, rest) = whole.split_once(" listening on ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

fn last_words(log: &Path) -> String {
    log::tail(log, true).lines.join(" | ")
}
