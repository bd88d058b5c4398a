//! One server as a child process: started, broken on purpose, started again, stopped.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::process::Process;
use super::program::{Invocation, Program};
use crate::backend::{Backend, Provisioner};
use crate::error::{FaultError, StartError};
use crate::external::Credentials;
use crate::options::StartOptions;
use crate::orphans::{descendants, is_stopped};
use crate::ports::Port;
use crate::probe::{self, NotReady, Target};
use crate::running::Facts;
use crate::server::Layout;
use crate::workspace::Workspace;

/// How long a killed process may take to be gone, and a paused one to stand still.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at whether a process that was told to stop has.
const STOPPED_INTERVAL: Duration = Duration::from_millis(1);
/// How long an orderly stop may take before a restart kills.
const RESTART_STOP_LIMIT: Duration = Duration::from_secs(20);

/// A server that this process started.
#[derive(Debug)]
pub(crate) struct NativeServer {
    backend: Backend,
    layout: Layout,
    invocation: Invocation,
    time_limit: Duration,
    log: std::path::PathBuf,
    state: Mutex<State>,
    _ports: (Port, Port),
}

#[derive(Debug)]
struct State {
    // Dropped in this order: the process first, then the files that it writes.
    process: Option<Process>,
    /// None once it was stopped for good.
    workspace: Option<Workspace>,
}

/// Who a member of a cluster is, and who the others are: known before any of them runs.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) identity: String,
    /// Every member's name and peer port.
    pub(crate) members: Vec<(String, u16)>,
}

impl NativeServer {
    /// Starts `program` on these ports and waits until it is ready.
    pub(crate) async fn start(
        backend: Backend,
        program: &Program,
        options: &StartOptions,
        ports: (Port, Port),
        membership: Option<Membership>,
    ) -> Result<(Self, Facts), StartError> {
        let workspace = Workspace::new(backend, Provisioner::Native, options)?;
        let Membership { identity, members } = membership.unwrap_or_else(|| Membership {
            identity: workspace.identity.clone(),
            members: vec![(workspace.identity.clone(), ports.1.number())],
        });
        let layout = Layout {
            identity,
            bind: "127.0.0.1",
            port: ports.0.number(),
            side_port: ports.1.number(),
            data_dir: workspace.data_dir.display().to_string(),
            durability: options.durability,
            members,
        };
        let configuration = workspace.configure(&layout)?;
        let started = Instant::now();
        if let Some(invocation) = program.prepare(&workspace.config_dir, &layout.identity) {
            prepare(&workspace, &invocation, &layout, options.time_limit).await?;
        }
        let invocation = program.serve(&workspace.config_dir);
        let command = invocation.command_line();
        let mut server = Self {
            backend,
            layout,
            invocation,
            time_limit: options.time_limit,
            log: workspace.log.clone(),
            state: Mutex::new(State { process: None, workspace: None }),
            _ports: ports,
        };
        let mut workspace = workspace;
        let left = options.time_limit.saturating_sub(started.elapsed());
        let (process, version) = server.serve(&mut workspace, left).await?;
        *server.state.get_mut() = State { process: Some(process), workspace: Some(workspace) };
        Ok((server, Facts { version, command, configuration, image: None }))
    }

    /// Starts the process and waits until it answers; returns the version it states.
    async fn serve(
        &self,
        workspace: &mut Workspace,
        limit: Duration,
    ) -> Result<(Process, String), StartError> {
        let log_start = workspace.log_length();
        let process =
            Process::spawn(&self.invocation, &self.log).await.map_err(spawn_error(&self.invocation))?;
        workspace.record.set_server(process.pid()).map_err(StartError::io("write the server's record"))?;
        let address = self.layout.address();
        let target = Target {
            backend: self.backend,
            address: &address,
            identity: Some(&self.layout.identity),
            credentials: &Credentials::default(),
        };
        let answer = tokio::select! {
            status = process.exited() => return Err(workspace.exited(status.to_string())),
            answer = probe::until_ready(&target, limit) => answer,
        };
        match answer {
            Ok(ready) => {
                let version = match ready.version {
                    Some(version) => version,
                    None => workspace.version_in_log(log_start).await,
                };
                Ok((process, version))
            }
            Err(NotReady::Yet(last)) => Err(workspace.not_ready(address, limit, &last)),
            Err(NotReady::Never(reason)) => {
                Err(StartError::Unsuitable { backend: self.backend, address, reason })
            }
        }
    }

    pub(crate) fn address(&self) -> String {
        self.layout.address()
    }

    pub(crate) fn side_port(&self) -> u16 {
        self.layout.side_port
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        // The lock is taken only while a fault is injected; then there is nothing steady to sample either.
        let Ok(state) = self.state.try_lock() else { return Vec::new() };
        match &state.process {
            Some(process) if process.status().is_none() => descendants(process.pid()),
            _ => Vec::new(),
        }
    }

    pub(crate) async fn kill(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        let process = self.living(&state)?;
        self.signal(process, Signal::KILL, "killed")?;
        self.gone(process, "killed").await
    }

    pub(crate) async fn pause(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        let process = self.living(&state)?;
        self.signal(process, Signal::STOP, "paused")?;
        // The thread that the signal was given to stops the others once it runs; on a busy machine they
        // serve clients until then.
        let stopped = async {
            while !descendants(process.pid()).into_iter().all(is_stopped) {
                sleep(STOPPED_INTERVAL).await;
            }
        };
        timeout(KILL_LIMIT, stopped).await.map_err(|_| self.late("paused", KILL_LIMIT))
    }

    pub(crate) async fn resume(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        self.signal(self.living(&state)?, Signal::CONT, "resumed")
    }

    /// Stops it in order if it runs, and starts it on the same ports with the same data.
    pub(crate) async fn restart(&self) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        if state.workspace.is_some()
            && let Some(process) = state.process.take()
        {
            self.end(&process, RESTART_STOP_LIMIT).await?;
        }
        let Some(workspace) = &mut state.workspace else {
            return Err(self.not_running("it was stopped for good"));
        };
        let served = self.serve(workspace, self.time_limit).await;
        let (process, _) = served.map_err(|error| FaultError::Restart(Box::new(error)))?;
        state.process = Some(process);
        Ok(())
    }

    /// Stops it in order within `deadline`, else by force, and removes what was temporary.
    pub(crate) async fn stop(&self, deadline: Duration) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        let ended = match state.process.take() {
            Some(process) => self.end(&process, deadline).await,
            None => Ok(()),
        };
        if let Some(workspace) = state.workspace.take() {
            workspace.remove().await;
        }
        ended
    }

    async fn end(&self, process: &Process, deadline: Duration) -> Result<(), FaultError> {
        self.signal(process, Signal::TERM, "stopped")?;
        // A paused process takes no notice of a polite request.
        self.signal(process, Signal::CONT, "stopped")?;
        if timeout(deadline, process.exited()).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(backend = %self.backend, ?deadline, "server did not stop in order and is killed");
        self.signal(process, Signal::KILL, "stopped")?;
        self.gone(process, "stopped").await
    }

    async fn gone(&self, process: &Process, verb: &'static str) -> Result<(), FaultError> {
        timeout(KILL_LIMIT, process.exited()).await.map(|_| ()).map_err(|_| self.late(verb, KILL_LIMIT))
    }

    fn late(&self, verb: &'static str, waited: Duration) -> FaultError {
        FaultError::Deadline { backend: self.backend, verb, waited }
    }

    fn living<'a>(&self, state: &'a State) -> Result<&'a Process, FaultError> {
        match &state.process {
            Some(process) => match process.status() {
                None => Ok(process),
                Some(status) => Err(self.not_running(&format!("it ended with {status}"))),
            },
            None => Err(self.not_running("it was stopped")),
        }
    }

    fn signal(&self, process: &Process, signal: Signal, verb: &'static str) -> Result<(), FaultError> {
        process.signal(signal).map_err(|error| FaultError::Refused {
            backend: self.backend,
            verb,
            reason: error.to_string(),
        })
    }

    fn not_running(&self, state: &str) -> FaultError {
        FaultError::NotRunning { backend: self.backend, state: state.to_owned() }
    }
}

/// Runs what has to run before the first start.
async fn prepare(
    workspace: &Workspace,
    invocation: &Invocation,
    layout: &Layout,
    limit: Duration,
) -> Result<(), StartError> {
    let process = Process::spawn(invocation, &workspace.log).await.map_err(spawn_error(invocation))?;
    let ended: Result<ExitStatus, _> = timeout(limit, process.exited()).await;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(workspace.exited(status.to_string())),
        Err(_) => {
            Err(workspace.not_ready(layout.address(), limit, "formatting the data directory did not end"))
        }
    }
}

fn spawn_error(invocation: &Invocation) -> impl FnOnce(std::io::Error) -> StartError {
    StartError::io(format!("run {}", invocation.program.display()))
}
