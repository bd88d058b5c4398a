//! One server in a container: started, broken on purpose, started again, stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bollard::query_parameters::{KillContainerOptions, WaitContainerOptions};
use futures_util::StreamExt;
use testcontainers::core::error::WaitContainerError;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, TestcontainersError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::engine::{Engine, explain};
use super::logs::LogCopy;
use super::{container, image, sweep};
use crate::backend::{Backend, Provisioner};
use crate::error::{FaultError, StartError};
use crate::external::Credentials;
use crate::options::{ContainerNetwork, StartOptions};
use crate::orphans::descendants;
use crate::ports::Port;
use crate::probe::{self, NotReady, Target};
use crate::running::Facts;
use crate::server::Layout;
use crate::workspace::Workspace;

/// How long the engine may take for one request beyond what the request itself waits for.
const ENGINE_LIMIT: Duration = Duration::from_secs(15);
/// Between two attempts to freeze a busy container.
const FREEZE_INTERVAL: Duration = Duration::from_millis(50);
/// How long an orderly stop may take before a restart kills.
const RESTART_STOP_LIMIT: Duration = Duration::from_secs(20);

/// A container that this process started.
#[derive(Debug)]
pub(crate) struct DockerServer {
    backend: Backend,
    engine: Engine,
    layout: Layout,
    time_limit: Duration,
    log: PathBuf,
    /// The main process as this machine numbers it; 0 while it is down or cannot be seen from here.
    pid: AtomicI32,
    state: Mutex<State>,
    _ports: (Port, Port),
}

#[derive(Debug, Default)]
struct State {
    container: Option<ContainerAsync<GenericImage>>,
    log: Option<LogCopy>,
    /// How much the container printed in its earlier lives.
    printed: u64,
    /// None once it was stopped for good.
    workspace: Option<Workspace>,
}

impl DockerServer {
    /// Starts a container on these ports and waits until the server in it is ready.
    pub(crate) async fn start(
        engine: &Engine,
        backend: Backend,
        options: &StartOptions,
        ports: (Port, Port),
    ) -> Result<(Self, Facts), StartError> {
        let image = image::obtain(engine, backend, options).await?;
        let workspace = Workspace::new(backend, Provisioner::Docker, options)?;
        let network = engine.network(options.container_network);
        let layout = Layout {
            identity: workspace.identity.clone(),
            bind: if network == ContainerNetwork::Host { "127.0.0.1" } else { "0.0.0.0" },
            port: ports.0.number(),
            side_port: ports.1.number(),
            data_dir: container::DATA_DIR.to_owned(),
            durability: options.durability,
            members: Vec::new(),
        };
        let configuration = workspace.configure(&layout)?;
        let started = Instant::now();
        let request = container::request(
            engine,
            &workspace,
            &layout,
            &image,
            network,
            &options.run_label,
            options.time_limit,
        );
        let (entrypoint, arguments) = container::command(backend, &layout);
        let command = entrypoint.map(str::to_owned).into_iter().chain(arguments).collect();
        let container = match request.start().await {
            Ok(container) => container,
            Err(error) => {
                // The crate forgets a container that it created and could not start.
                sweep::remove_server(&engine.docker, &workspace.unique_name).await;
                let reason = explain(&error);
                return Err(match error {
                    TestcontainersError::WaitContainer(WaitContainerError::StartupTimeout) => {
                        workspace.not_ready(layout.address(), options.time_limit, &reason)
                    }
                    _ => workspace.exited(reason),
                });
            }
        };
        let server = Self {
            backend,
            engine: engine.clone(),
            layout,
            time_limit: options.time_limit,
            log: workspace.log.clone(),
            pid: AtomicI32::new(0),
            state: Mutex::new(State {
                container: Some(container),
                workspace: Some(workspace),
                ..State::default()
            }),
            _ports: ports,
        };
        let left = options.time_limit.saturating_sub(started.elapsed());
        let served = server.serve(&mut *server.state.lock().await, left).await;
        match served {
            Ok(version) => Ok((server, Facts { version, command, configuration, image: Some(image) })),
            Err(error) => {
                let _ = server.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// Waits until the container, just started, answers; returns the version it states.
    async fn serve(&self, state: &mut State, limit: Duration) -> Result<String, StartError> {
        let State { container: Some(container), workspace: Some(workspace), .. } = state else {
            return Err(StartError::Engine { reason: "the container was removed".to_owned() });
        };
        let id = container.id().to_owned();
        let log_start = workspace.log_length();
        let copy = LogCopy::start(self.engine.docker.clone(), id.clone(), self.log.clone(), state.printed);
        let address = self.layout.address();
        let target = Target {
            backend: self.backend,
            address: &address,
            identity: Some(&self.layout.identity),
            credentials: &Credentials::default(),
        };
        let answer = tokio::select! {
            status = self.ended(&id) => {
                state.printed = copy.finish().await;
                return Err(workspace.exited(status));
            }
            answer = probe::until_ready(&target, limit) => answer,
        };
        state.log = Some(copy);
        match answer {
            Ok(ready) => {
                self.pid.store(self.find_pid(&id).await, Ordering::Relaxed);
                Ok(match ready.version {
                    Some(version) => version,
                    None => workspace.version_in_log(log_start).await,
                })
            }
            Err(NotReady::Yet(last)) => Err(workspace.not_ready(address, limit, &last)),
            Err(NotReady::Never(reason)) => {
                Err(StartError::Unsuitable { backend: self.backend, address, reason })
            }
        }
    }

    /// Waits for the container's end; returns how it ended.
    async fn ended(&self, id: &str) -> String {
        let mut end = std::pin::pin!(self.engine.docker.wait_container(id, None::<WaitContainerOptions>));
        // Its error is how a non-zero exit code arrives; the engine's own words are better.
        let _ = end.next().await;
        let state = self.engine.docker.inspect_container(id, None).await.ok().and_then(|found| found.state);
        let Some(state) = state else { return "the container is gone".to_owned() };
        let mut text = format!("exit status: {}", state.exit_code.unwrap_or_default());
        if state.oom_killed == Some(true) {
            text.push_str(", out of memory");
        }
        if let Some(error) = state.error.filter(|error| !error.is_empty()) {
            text.push_str(", ");
            text.push_str(&error);
        }
        text
    }

    /// The engine's number for the main process counts only if that process, seen from here, is the one of
    /// this container: this process or the engine may have numbers of its own.
    async fn find_pid(&self, id: &str) -> i32 {
        let found = self.engine.docker.inspect_container(id, None).await.ok();
        let pid = found.and_then(|found| found.state?.pid).and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|&pid| {
            procfs::process::Process::new(pid)
                .and_then(|process| process.cgroups())
                .is_ok_and(|groups| groups.0.iter().any(|group| group.pathname.contains(id)))
        })
        .unwrap_or(0)
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
        match self.pid.load(Ordering::Relaxed) {
            0 => Vec::new(),
            pid => descendants(pid),
        }
    }

    pub(crate) async fn kill(&self) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        let id = self.living(&state, "killed").await?;
        self.pid.store(0, Ordering::Relaxed);
        let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
        self.within("killed", ENGINE_LIMIT, self.engine.docker.kill_container(&id, Some(options))).await?;
        timeout(ENGINE_LIMIT, self.ended(&id)).await.map_err(|_| self.late("killed", ENGINE_LIMIT))?;
        self.finish_log(&mut state).await;
        Ok(())
    }

    pub(crate) async fn pause(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        let container = self.container(&state)?;
        // An engine on version 1 control groups gives up freezing a busy process and thaws it again.
        let pause = async {
            loop {
                match container.pause().await {
                    Err(error) if explain(&error).contains("unable to freeze") => {
                        sleep(FREEZE_INTERVAL).await
                    }
                    ended => return ended,
                }
            }
        };
        self.within("paused", ENGINE_LIMIT, pause).await
    }

    pub(crate) async fn resume(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        let container = self.container(&state)?;
        self.within("resumed", ENGINE_LIMIT, container.unpause()).await
    }

    /// Stops it in order if it runs, and starts the same container with the same ports and data.
    pub(crate) async fn restart(&self) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        self.pid.store(0, Ordering::Relaxed);
        self.end(self.container(&state)?, RESTART_STOP_LIMIT).await?;
        self.finish_log(&mut state).await;
        self.within("restarted", ENGINE_LIMIT, self.container(&state)?.start()).await?;
        self.serve(&mut state, self.time_limit)
            .await
            .map(|_| ())
            .map_err(|error| FaultError::Restart(Box::new(error)))
    }

    /// Stops it in order within `deadline`, else by force, and removes it and what was temporary.
    pub(crate) async fn stop(&self, deadline: Duration) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        self.pid.store(0, Ordering::Relaxed);
        let mut ended = Ok(());
        if let Some(container) = state.container.take() {
            ended = self.end(&container, deadline).await;
            self.finish_log(&mut state).await;
            let removed = self.within("removed", ENGINE_LIMIT, container.rm()).await;
            ended = ended.and(removed);
        }
        if let Some(workspace) = state.workspace.take() {
            workspace.remove().await;
        }
        ended
    }

    /// Stops the container; one that does not run is left as it is.
    async fn end(
        &self,
        container: &ContainerAsync<GenericImage>,
        deadline: Duration,
    ) -> Result<(), FaultError> {
        // A paused container takes no notice of a polite request.
        let _ = timeout(ENGINE_LIMIT, container.unpause()).await;
        let seconds = i32::try_from(deadline.as_secs()).unwrap_or(i32::MAX);
        self.within("stopped", deadline + ENGINE_LIMIT, container.stop_with_timeout(Some(seconds))).await
    }

    async fn finish_log(&self, state: &mut State) {
        if let Some(copy) = state.log.take() {
            state.printed = copy.finish().await;
        }
    }

    fn container<'a>(&self, state: &'a State) -> Result<&'a ContainerAsync<GenericImage>, FaultError> {
        state.container.as_ref().ok_or_else(|| self.not_running("it was stopped for good"))
    }

    async fn living(&self, state: &State, verb: &'static str) -> Result<String, FaultError> {
        let container = self.container(state)?;
        let mut running = false;
        self.within(verb, ENGINE_LIMIT, async {
            running = container.is_running().await?;
            Ok::<(), TestcontainersError>(())
        })
        .await?;
        if running { Ok(container.id().to_owned()) } else { Err(self.not_running("its container has ended")) }
    }

    async fn within<E: std::error::Error>(
        &self,
        verb: &'static str,
        limit: Duration,
        request: impl Future<Output = Result<(), E>>,
    ) -> Result<(), FaultError> {
        match timeout(limit, request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(FaultError::Refused { backend: self.backend, verb, reason: explain(&error) })
            }
            Err(_) => Err(self.late(verb, limit)),
        }
    }

    fn late(&self, verb: &'static str, waited: Duration) -> FaultError {
        FaultError::Deadline { backend: self.backend, verb, waited }
    }

    fn not_running(&self, state: &str) -> FaultError {
        FaultError::NotRunning { backend: self.backend, state: state.to_owned() }
    }
}

impl Drop for DockerServer {
    /// Removes the container from a thread with a runtime of its own: the crate's own clean-up needs the
    /// caller to be inside a runtime that can block, and panics where it is not.
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut());
        let Some(container) = state.container else { return };
        let docker = self.engine.docker.clone();
        let removal = std::thread::Builder::new().name("container-removal".to_owned()).spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(async move {
                    let _docker = docker;
                    let _ = timeout(ENGINE_LIMIT, container.rm()).await;
                });
            }
        });
        if let Ok(thread) = removal {
            let _ = thread.join();
        }
    }
}
