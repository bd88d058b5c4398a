//! The `queuebench` program.

use std::process::ExitCode;

use clap::Parser as _;
use queuebench::cli::Cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Clap prints usage errors itself and ends with 2.
    let cli = match Cli::parse().node() {
        Ok(node) => return node.run(),
        Err(cli) => cli,
    };
    if cli.logs_itself() {
        return cli.run().into();
    }
    // librdkafka reports every broker it cannot reach yet as an error; our own errors say what matters.
    let filter = EnvFilter::try_from_env("QUEUEBENCH_LOG")
        .unwrap_or_else(|_| EnvFilter::new("error,rdkafka=off,librdkafka=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    cli.run().into()
}
