//! A node as a program: its log, its runtime and its exit code, the same for all that run on Raft.

use std::error::Error;
use std::future::Future;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// How long what still runs when the node has ended may take: a hook or a disk that hangs must not keep the
/// process.
const ABANDON_AFTER: Duration = Duration::from_millis(100);

/// Runs `serve` to its end on a runtime of its own. Logs to standard error by `filter` (as in `RUST_LOG`;
/// `info` where it cannot be read); a program that has a log already keeps it.
pub fn run(filter: &str, serve: impl Future<Output = Result<(), Box<dyn Error>>>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_new(filter);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime does not start");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(serve);
    runtime.shutdown_timeout(ABANDON_AFTER);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "this node ends");
            ExitCode::FAILURE
        }
    }
}
