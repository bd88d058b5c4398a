//! One server as a child process: started, broken on purpose, started again, stopped.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::process::Process;
use super::program::{Invocation, Program};
use crate::backend::{Backend, Provisioner};
use crate::error::{FaultError, LogTail, StartError};
use crate::external::Credentials;
use crate::log;
use crate::options::StartOptions;
use crate::orphans::Record;
use crate::ports::Port;
use crate::probe::{self, NotReady, Target};
use crate::running::Facts;
use crate::server::{Layout, kafka, nats};

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long an orderly stop may take before a restart kills.
const RESTART_STOP_LIMIT: Duration = Duration::from_secs(20);

/// A server that this process started.
#[derive(Debug)]
pub(crate) struct NativeServer {
    backend: Backend,
    layout: Layout,
    invocation: Invocation,
    time_limit: Duration,
    log: PathBuf,
    log_is_kept: bool,
    state: Mutex<State>,
    // Dropped after the process: first the record that points at the directory, then the directory.
    _ports: (Port, Port),
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    record: Option<Record>,
    temporary: Option<TempDir>,
}

impl NativeServer {
    /// Starts `program` on these ports and waits until it is ready.
    pub(crate) async fn start(
        backend: Backend,
        program: &Program,
        options: &StartOptions,
        ports: (Port, Port),
    ) -> Result<(Self, Facts), StartError> {
        let id = crate::start::unique();
        let name = options.name.as_deref().unwrap_or(backend.name());
        let temporary = TempDir::with_prefix(format!("queuebench-{name}-"))
            .map_err(StartError::io("create a temporary directory"))?;
        let config_dir = temporary.path().to_owned();
        let record_name = format!("{name}-{id:032x}");
        let record =
            Record::new(&options.cache_dir, &options.run_label, &record_name, Some(config_dir.clone()))
                .map_err(StartError::io(format!("write a record in {}", options.cache_dir.display())))?;
        let data_dir = options.data_dir.clone().unwrap_or_else(|| config_dir.join("data"));
        let log_dir = options.log_dir.clone().unwrap_or_else(|| config_dir.clone());
        for directory in [&data_dir, &log_dir] {
            fs::create_dir_all(directory)
                .map_err(StartError::io(format!("create {}", directory.display())))?;
        }
        let layout = Layout {
            identity: identity(backend, id, &data_dir),
            bind: "127.0.0.1",
            port: ports.0.number(),
            side_port: ports.1.number(),
            data_dir: data_dir.display().to_string(),
            durability: options.durability,
        };
        let mut configuration = Vec::new();
        for (file, text) in files(backend, &layout) {
            let path = config_dir.join(file);
            fs::write(&path, &text).map_err(StartError::io(format!("write {}", path.display())))?;
            configuration.push((file.to_owned(), text));
        }
        let invocation = program.serve(&config_dir);
        let server = Self {
            backend,
            invocation: invocation.clone(),
            time_limit: options.time_limit,
            log: log_dir.join(format!("{name}.log")),
            log_is_kept: options.log_dir.is_some(),
            state: Mutex::new(State { process: None, record: Some(record), temporary: Some(temporary) }),
            _ports: ports,
            layout,
        };
        let started = Instant::now();
        if let Some(prepare) = program.prepare(&config_dir, &server.layout.identity) {
            server.prepare(&prepare).await?;
        }
        let version = server.serve(options.time_limit.saturating_sub(started.elapsed())).await?;
        let facts = Facts { version, command: invocation.command_line(), configuration, image: None };
        Ok((server, facts))
    }

    /// Runs what has to run before the first start.
    async fn prepare(&self, invocation: &Invocation) -> Result<(), StartError> {
        let process = Process::spawn(invocation, &self.log).await.map_err(self.spawn_error(invocation))?;
        match timeout(self.time_limit, process.exited()).await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.exited(status)),
            Err(_) => Err(self.not_ready(self.time_limit, "formatting the data directory did not end")),
        }
    }

    /// Starts the process and waits until it answers; returns the version it states.
    async fn serve(&self, limit: Duration) -> Result<String, StartError> {
        let log_start = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let mut state = self.state.lock().await;
        let process =
            Process::spawn(&self.invocation, &self.log).await.map_err(self.spawn_error(&self.invocation))?;
        if let Some(record) = &mut state.record {
            record.set_server(process.pid()).map_err(StartError::io("write the server's record"))?;
        }
        let address = self.layout.address();
        let target = Target {
            backend: self.backend,
            address: &address,
            identity: Some(&self.layout.identity),
            credentials: &Credentials::default(),
        };
        let answer = tokio::select! {
            status = process.exited() => return Err(self.exited(status)),
            answer = probe::until_ready(&target, limit) => answer,
        };
        match answer {
            Ok(ready) => {
                state.process = Some(process);
                Ok(ready.version.or_else(|| self.version_in_log(log_start)).unwrap_or_default())
            }
            Err(NotReady::Yet(last)) => Err(self.not_ready(limit, &last)),
            Err(NotReady::Never(reason)) => {
                Err(StartError::Unsuitable { backend: self.backend, address, reason })
            }
        }
    }

    fn version_in_log(&self, from: u64) -> Option<String> {
        let bytes = fs::read(&self.log).ok()?;
        let start = usize::try_from(from).ok().filter(|&start| start <= bytes.len()).unwrap_or(0);
        kafka::version_in_log(&String::from_utf8_lossy(&bytes[start..]))
    }

    pub(crate) fn address(&self) -> String {
        self.layout.address()
    }

    pub(crate) fn side_port(&self) -> u16 {
        self.layout.side_port
    }

    pub(crate) fn log(&self) -> &std::path::Path {
        &self.log
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        // Only while a fault is being injected is the lock taken; then there is nothing to sample either.
        let Ok(state) = self.state.try_lock() else { return Vec::new() };
        state.process.iter().filter(|process| process.status().is_none()).map(Process::pid).collect()
    }

    pub(crate) async fn kill(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        let process = self.living(&state)?;
        self.signal(process, Signal::KILL, "killed")?;
        timeout(KILL_LIMIT, process.exited()).await.map(|_| ()).map_err(|_| FaultError::Deadline {
            backend: self.backend,
            verb: "killed",
            waited: KILL_LIMIT,
        })
    }

    pub(crate) async fn pause(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        self.signal(self.living(&state)?, Signal::STOP, "paused")
    }

    pub(crate) async fn resume(&self) -> Result<(), FaultError> {
        let state = self.state.lock().await;
        self.signal(self.living(&state)?, Signal::CONT, "resumed")
    }

    /// Stops it in order if it runs, and starts it on the same ports with the same data.
    pub(crate) async fn restart(&self) -> Result<(), FaultError> {
        {
            let mut state = self.state.lock().await;
            if state.temporary.is_none() {
                return Err(self.not_running("it was stopped for good"));
            }
            if let Some(process) = state.process.take() {
                self.end(&process, RESTART_STOP_LIMIT).await?;
            }
        }
        self.serve(self.time_limit).await.map(|_| ()).map_err(|error| FaultError::Restart(Box::new(error)))
    }

    /// Stops it in order within `deadline`, else by force, and removes what was temporary.
    pub(crate) async fn stop(&self, deadline: Duration) -> Result<(), FaultError> {
        let mut state = self.state.lock().await;
        let ended = match state.process.take() {
            Some(process) => self.end(&process, deadline).await,
            None => Ok(()),
        };
        state.record = None;
        if let Some(temporary) = state.temporary.take() {
            // Large data may take a while to unlink.
            let _ = tokio::task::spawn_blocking(move || temporary.close()).await;
        }
        ended
    }

    async fn end(&self, process: &Process, deadline: Duration) -> Result<(), FaultError> {
        // A paused process takes no notice of a polite request.
        self.signal(process, Signal::TERM, "stopped")?;
        self.signal(process, Signal::CONT, "stopped")?;
        if timeout(deadline, process.exited()).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(backend = %self.backend, ?deadline, "server did not stop in order and is killed");
        self.signal(process, Signal::KILL, "stopped")?;
        timeout(KILL_LIMIT, process.exited()).await.map(|_| ()).map_err(|_| FaultError::Deadline {
            backend: self.backend,
            verb: "stopped",
            waited: KILL_LIMIT,
        })
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

    fn spawn_error(&self, invocation: &Invocation) -> impl FnOnce(std::io::Error) -> StartError {
        StartError::io(format!("run {}", invocation.program.display()))
    }

    fn tail(&self) -> LogTail {
        log::tail(&self.log, self.log_is_kept)
    }

    fn exited(&self, status: ExitStatus) -> StartError {
        StartError::Exited {
            backend: self.backend,
            provisioner: Provisioner::Native,
            status: status.to_string(),
            tail: self.tail(),
        }
    }

    fn not_ready(&self, waited: Duration, last: &str) -> StartError {
        StartError::NotReady {
            backend: self.backend,
            provisioner: Provisioner::Native,
            address: self.layout.address(),
            waited,
            last: last.to_owned(),
            tail: self.tail(),
        }
    }
}

/// The files that the configuration consists of.
pub(crate) fn files(backend: Backend, layout: &Layout) -> Vec<(&'static str, String)> {
    match backend {
        Backend::Nats => vec![(nats::CONFIG_FILE, nats::config(layout))],
        Backend::Kafka => vec![
            (kafka::CONFIG_FILE, kafka::config(layout)),
            (kafka::LOG_CONFIG_FILE, kafka::log_config().to_owned()),
        ],
    }
}

/// A Kafka data directory that was formatted before keeps its cluster id.
fn identity(backend: Backend, id: u128, data_dir: &std::path::Path) -> String {
    match backend {
        Backend::Nats => format!("queuebench-{id:032x}"),
        Backend::Kafka => fs::read_to_string(data_dir.join("meta.properties"))
            .ok()
            .and_then(|text| {
                text.lines().find_map(|line| line.strip_prefix("cluster.id=").map(str::to_owned))
            })
            .unwrap_or_else(|| kafka::cluster_id(id)),
    }
}
