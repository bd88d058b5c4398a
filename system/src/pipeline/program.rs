//! What the programs share: flags, settings, runtime, signals, exit codes.
//!
//! Exit codes: 0 ended cleanly; 1 could not start, or something was still open at the deadline; 2 bad flags;
//! 130 a second signal cut the shutdown short.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::config::{Env, Settings};
use super::processor::{self, Processor};
use super::{gateway, grpc, ingest};
use crate::telemetry::logging;

/// What a program is called and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// One line on what it does.
    pub about: &'static str,
    /// The variables that it reads, for `--help`.
    pub environment: &'static str,
    /// How long a shutdown may take unless a flag says otherwise.
    pub shutdown_s: u64,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Settings in TOML; variables of the environment override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads that serve requests
    #[arg(long, env = "SERVICE_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: u16,
    /// Seconds that a shutdown may take [default: depends on the service]
    #[arg(long, env = "SHUTDOWN_DEADLINE_S")]
    shutdown_deadline: Option<u64>,
}

/// A service that runs.
trait Running {
    /// Where it listens, in words.
    fn listens(&self) -> String;
    /// Ends it; says what was left undone.
    fn stop(&self, deadline: Duration) -> impl Future<Output = Result<(), String>>;
}

fn cut_off(drained: bool) -> Result<(), String> {
    if drained { Ok(()) } else { Err("requests were cut off at the deadline".to_owned()) }
}

impl Running for gateway::Gateway {
    fn listens(&self) -> String {
        match self.tls_address() {
            None => format!("http://{}", self.address()),
            Some(tls) => format!("http://{} and https://{tls}", self.address()),
        }
    }
    async fn stop(&self, deadline: Duration) -> Result<(), String> {
        cut_off(self.shutdown(deadline).await)
    }
}

impl Running for ingest::Ingest {
    fn listens(&self) -> String {
        format!("http://{}", self.address())
    }
    async fn stop(&self, deadline: Duration) -> Result<(), String> {
        cut_off(self.shutdown(deadline).await)
    }
}

impl Running for Processor {
    fn listens(&self) -> String {
        format!("http://{}", self.address())
    }
    async fn stop(&self, deadline: Duration) -> Result<(), String> {
        self.shutdown(deadline).await.map_err(|error| error.to_string())
    }
}

impl Running for grpc::GrpcServer {
    fn listens(&self) -> String {
        format!("grpc://{} and http://{}", self.address(), self.http_address())
    }
    async fn stop(&self, deadline: Duration) -> Result<(), String> {
        cut_off(self.shutdown(deadline).await)
    }
}

/// `api-gateway`, with the arguments of this process.
pub fn gateway(program: Program) -> ExitCode {
    gateway_with(program, std::env::args_os())
}

/// `api-gateway`, for a program that carries several; the first argument names the program.
pub fn gateway_with(program: Program, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(program, arguments, async |settings| {
        gateway::start(settings.gateway).await.map_err(|error| error.to_string())
    })
}

/// `ingest`, with the arguments of this process.
pub fn ingest(program: Program) -> ExitCode {
    ingest_with(program, std::env::args_os())
}

/// `ingest`, for a program that carries several; the first argument names the program.
pub fn ingest_with(program: Program, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(program, arguments, async |settings| {
        ingest::start(settings.ingest).await.map_err(|error| error.to_string())
    })
}

/// `processor`, with the arguments of this process.
pub fn processor(program: Program) -> ExitCode {
    processor_with(program, std::env::args_os())
}

/// `processor`, for a program that carries several; the first argument names the program.
pub fn processor_with(program: Program, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(program, arguments, async |settings| {
        processor::start(settings.processor).await.map_err(|error| error.to_string())
    })
}

/// `grpc-server`, with the arguments of this process.
pub fn grpc_server(program: Program) -> ExitCode {
    run(program, std::env::args_os(), async |settings| {
        grpc::start(settings.grpc).await.map_err(|error| error.to_string())
    })
}

fn run<R: Running>(
    program: Program,
    arguments: impl Iterator<Item = OsString>,
    start: impl AsyncFnOnce(Settings) -> Result<R, String>,
) -> ExitCode {
    let command = Arguments::command()
        .name(program.name)
        .about(program.about)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(program.environment);
    let arguments = match Arguments::from_arg_matches(&command.get_matches_from(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    // One thread needs no work stealing, and tasks that are ready together run one after another, which is
    // what lets their frames share a write.
    let runtime = if arguments.threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(arguments.threads.into())
            .enable_all()
            .build()
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(program, &error.to_string()),
    };
    runtime.block_on(serve(program, &arguments, start))
}

async fn serve<R: Running>(
    program: Program,
    arguments: &Arguments,
    start: impl AsyncFnOnce(Settings) -> Result<R, String>,
) -> ExitCode {
    let guard = match logging::install(program.name) {
        Ok(guard) => guard,
        Err(error) => return fail(program, &error.to_string()),
    };
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(program, &error.to_string()),
    };
    let settings = match Settings::load(arguments.config.as_deref(), &Env::of_process()) {
        Ok(settings) => settings,
        Err(error) => return fail(program, &error.to_string()),
    };
    let running = match start(settings).await {
        Ok(running) => running,
        Err(error) => return fail(program, &error),
    };
    announce(program, &running.listens());
    tracing::info!(service = program.name, address = running.listens(), "ready");
    either(&mut interrupt, &mut terminate).await;
    let deadline = Duration::from_secs(arguments.shutdown_deadline.unwrap_or(program.shutdown_s));
    tracing::info!(service = program.name, ?deadline, "shutting down");
    let code = tokio::select! {
        stopped = running.stop(deadline) => match stopped {
            Ok(()) => {
                tracing::info!(service = program.name, "ended cleanly");
                ExitCode::SUCCESS
            }
            Err(reason) => fail(program, &reason),
        },
        () = either(&mut interrupt, &mut terminate) => {
            tracing::warn!(service = program.name, "second signal: shutdown cut short");
            ExitCode::from(130)
        }
    };
    // The exporter's connection lives on this thread, which must not stand still while it sends the rest.
    if let Err(error) = tokio::task::spawn_blocking(move || guard.shutdown()).await {
        tracing::warn!(%error, "traces were not all exported");
    }
    code
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// One line on stdout, for scripts that wait for it and need the port.
#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn announce(program: Program, listens: &str) {
    println!("{} listening on {listens}", program.name);
}

#[expect(clippy::print_stderr, reason = "the reason must show whatever the log filter says")]
fn fail(program: Program, reason: &str) -> ExitCode {
    eprintln!("{}: {reason}", program.name);
    ExitCode::FAILURE
}
