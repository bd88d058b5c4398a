//! What can go wrong when a server is started or broken on purpose.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::backend::{Backend, Provisioner};

/// A server could not be started. Whatever had been started on the way was stopped again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port that the caller asked for is taken.
    #[error("port {port} for {backend} is in use on 127.0.0.1: choose another, or 0 for a free one")]
    PortInUse {
        /// For which server.
        backend: Backend,
        /// Which port.
        port: u16,
    },
    /// The server is not installed and cannot be built here.
    #[error("{program} is neither on PATH nor in {cache}, and building it needs {tool}: {hint}", cache = .cache.display())]
    MissingToolchain {
        /// The server's program.
        program: &'static str,
        /// The tool that was not found.
        tool: &'static str,
        /// Where a built program would be kept.
        cache: PathBuf,
        /// What the user can do.
        hint: &'static str,
    },
    /// Building or downloading the server failed.
    #[error("`{command}` failed ({status}){tail}")]
    Build {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        tail: LogTail,
    },
    /// No container engine answers.
    #[error("no container engine answers: {reason}")]
    Engine {
        /// What the connection said.
        reason: String,
    },
    /// The image is not here and could not be pulled.
    #[error("image {image} is not present and could not be pulled: {reason}")]
    Image {
        /// Which image.
        image: String,
        /// What the engine said.
        reason: String,
    },
    /// The server ended before it was ready.
    #[error("{backend} ({provisioner}) ended before it was ready: {status}{tail}")]
    Exited {
        /// Which server.
        backend: Backend,
        /// How it was started.
        provisioner: Provisioner,
        /// Exit code or signal.
        status: String,
        /// The end of its log.
        tail: LogTail,
    },
    /// The server runs but did not answer its own protocol in time.
    #[error("{backend} ({provisioner}) at {address} was not ready within {waited:.0?}: {last}{tail}")]
    NotReady {
        /// Which server.
        backend: Backend,
        /// How it was started.
        provisioner: Provisioner,
        /// Where it should answer.
        address: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last attempt said.
        last: String,
        /// The end of its log.
        tail: LogTail,
    },
    /// An external server does not answer.
    #[error("{backend} at {address} did not answer within {waited:.0?}: {last}")]
    Unreachable {
        /// Which server.
        backend: Backend,
        /// Where it should answer.
        address: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// A server answers, but not one that can be used.
    #[error("{backend} at {address} cannot be used: {reason}")]
    Unsuitable {
        /// Which server.
        backend: Backend,
        /// Where it answers.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The build or the pull took longer than allowed.
    #[error("{what} did not finish within {waited:.0?}")]
    PrepareLimit {
        /// What was being done.
        what: String,
        /// The limit.
        waited: Duration,
    },
    /// No way is open, each for its own reason.
    #[error("{backend} cannot be started here: {}", list(.reasons))]
    NoWay {
        /// Which server.
        backend: Backend,
        /// Each way that was tried and why it is closed.
        reasons: Vec<(Provisioner, String)>,
    },
    /// An option makes no sense.
    #[error("option `{option}`: {reason}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file or a process of ours could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the way itself is closed (no engine, no image, no toolchain), so that another may be tried;
    /// a server that was started and failed is not such a case.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::MissingToolchain { .. } | Self::Engine { .. } | Self::Image { .. })
    }

    pub(crate) fn is_port_clash(&self) -> bool {
        matches!(self, Self::Exited { status, tail, .. } if is_port_clash(status) || tail.is_port_clash())
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// In the words of the operating system, and of container engines.
fn is_port_clash(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("address already in use") || text.contains("port is already allocated")
}

fn list(ways: &[(Provisioner, String)]) -> String {
    ways.iter().map(|(way, reason)| format!("{way}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// The last lines of a server's log, printed below the error that they explain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    /// At most the last 20 lines.
    pub lines: Vec<String>,
    /// Where the whole log is, if it outlives the error.
    pub path: Option<PathBuf>,
}

impl LogTail {
    fn is_port_clash(&self) -> bool {
        self.lines.iter().any(|line| is_port_clash(line))
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(formatter, "\n  log: {}", path.display())?;
        }
        if self.lines.is_empty() {
            return formatter.write_str("\n  (its log is empty)");
        }
        for line in &self.lines {
            write!(formatter, "\n  | {line}")?;
        }
        Ok(())
    }
}

/// A fault could not be injected, or what was broken did not come back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// This process does not own the server.
    #[error("{backend} at {address} is external: it cannot be {verb} from here")]
    External {
        /// Which server.
        backend: Backend,
        /// Where it is.
        address: String,
        /// Participle of what was wanted.
        verb: &'static str,
    },
    /// The server is not running, so there is nothing to break.
    #[error("{backend} is not running: {state}")]
    NotRunning {
        /// Which server.
        backend: Backend,
        /// What is known of its end.
        state: String,
    },
    /// It did not do what was asked within the time allowed.
    #[error("{backend} was not {verb} within {waited:.0?}")]
    Deadline {
        /// Which server.
        backend: Backend,
        /// Participle of what was wanted.
        verb: &'static str,
        /// The limit.
        waited: Duration,
    },
    /// It did not start again.
    #[error("restart: {0}")]
    Restart(#[source] Box<StartError>),
    /// The engine or the operating system refused.
    #[error("{backend} could not be {verb}: {reason}")]
    Refused {
        /// Which server.
        backend: Backend,
        /// Participle of what was wanted.
        verb: &'static str,
        /// What was said.
        reason: String,
    },
}
