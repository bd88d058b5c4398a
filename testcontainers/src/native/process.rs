//! One child process with its death watched.
//!
//! The kernel's death signal goes out when the *thread* that forked the child ends. So each child has a
//! thread of its own that forks it, waits for its end, and lives exactly as long. That thread also makes
//! signals safe: it reaps the child under the lock that [`Process::signal`] takes, so a signal never hits a
//! reused pid.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::{oneshot, watch};

use super::program::Invocation;

/// How long a drop waits for a killed child to be gone, so that its files can be removed after it.
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// A child that was started; its group is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    end: Arc<End>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts `invocation` with its output appended to `log`.
    pub(crate) async fn spawn(invocation: &Invocation, log: &Path) -> io::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = die_with_parent(invocation);
        command
            .envs(invocation.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        if let Some(directory) = &invocation.directory {
            command.current_dir(directory);
        }
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let end = Arc::new(End::default());
        let thread_end = Arc::clone(&end);
        thread::Builder::new()
            .name("server-child".to_owned())
            .spawn(move || own(command, started, &thread_end, &ended))?;
        let pid = start.await.map_err(|_| io::Error::other("the child's thread ended"))??;
        Ok(Self { pid, end, exit })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How it ended, if it did.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub(crate) async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        // The sender is dropped only after it has sent, so the channel cannot close without a value.
        match exit.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            _ => ExitStatus::default(),
        }
    }

    /// Sends `signal` to the whole group; nothing if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let reaped = self.end.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped { Ok(()) } else { Ok(kill_process_group(self.pid, signal)?) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::KILL);
        let reaped = self.end.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.end.changed.wait_timeout_while(reaped, DROP_LIMIT, |reaped| !*reaped);
    }
}

/// Whether the child was reaped, and a bell for that moment.
#[derive(Debug, Default)]
struct End {
    reaped: Mutex<bool>,
    changed: Condvar,
}

/// The life of the child's thread.
fn own(
    mut command: Command,
    started: oneshot::Sender<io::Result<Pid>>,
    end: &End,
    ended: &watch::Sender<Option<ExitStatus>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_child(&child);
    if started.send(Ok(pid)).is_err() {
        // Nobody waits for it any more: the start was cancelled.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .is_err_and(|error| error == rustix::io::Errno::INTR)
    {}
    let status = {
        let mut reaped = end.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        // What the child itself started goes with it; the group's name is safe until the child is reaped.
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait().unwrap_or_default();
        *reaped = true;
        status
    };
    end.changed.notify_all();
    ended.send_replace(Some(status));
}

/// Wrapped so that the kernel kills it with this process, where the tool for that is installed.
fn die_with_parent(invocation: &Invocation) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let available = *SETPRIV.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    let mut command = if available {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&invocation.program);
        command
    } else {
        Command::new(&invocation.program)
    };
    command.args(&invocation.args);
    command
}
