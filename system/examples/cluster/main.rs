//! Worked examples of the cluster library: three ways to replicate an application's own data, and the
//! library's own small data.
//!
//! - `server-side`: clients ask any node; nodes forward to the key's primary, which replicates.
//! - `sync-replication`: smart clients write to all of a key's nodes and wait for two.
//! - `async-replication`: smart clients wait for the primary and send to the replicas in the background.
//! - `custom-data`: no store at all, a few values that everybody has.
//!
//! Each mode has `serve` (a node, set up by environment variables), `load` (writes keys, and notes what was
//! acknowledged) and `verify` (reads back what was noted; exit code 1 if something is missing). The scripts
//! beside this file put them together: three nodes, a load, one node killed, nothing acknowledged lost.

mod client;
mod copy;
mod http;
mod route;
mod serve;
mod store;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

/// How data is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Any node takes any key; nodes forward and replicate
    ServerSide,
    /// Clients write to all of a key's nodes and wait for two
    SyncReplication,
    /// Clients wait for the primary only
    AsyncReplication,
    /// Values that every node has
    CustomData,
}

/// A node, or a client, of one of the examples.
#[derive(Debug, Parser)]
struct Args {
    /// Which example
    mode: Mode,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a node: NODE_ID, HTTP_PORT, KV_PORT, JOIN_ADDR, DATA_DIR, PARTITION_COUNT, REPLICATION_FACTOR
    Serve,
    /// Write keys and note those that were acknowledged
    Load(client::Load),
    /// Read back what was noted
    Verify(client::Verify),
}

/// Where a client begins to look, and what it notes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// HTTP addresses of nodes
    #[arg(long, value_delimiter = ',', default_value = "localhost:8080,localhost:8081,localhost:8082")]
    servers: Vec<String>,
    /// The file of what was acknowledged, one `key value` a line
    #[arg(long)]
    acknowledged: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let coloured = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter("info,openraft=warn")
        .with_ansi(coloured)
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let done = match args.action {
        Action::Serve => serve::run(args.mode).await,
        Action::Load(load) => client::load(args.mode, &load).await,
        Action::Verify(verify) => client::verify(args.mode, &verify).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
