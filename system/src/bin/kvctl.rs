//! `kvctl`: put, get and delete keys of a cluster; finds the leader by itself.
//!
//! Ends with 0 when done, 1 when the key was not found or the store refused, 2 on bad usage, 3 when no leader
//! could be reached.

use std::{
    io::{Write, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use base64::Engine;
use clap::{Parser, Subcommand, ValueEnum};
use queuebench_system::kv::client::{HttpAnswer, KvClient, KvClientError};
use serde_json::json;

/// Reads and writes keys of a key-value cluster.
#[derive(Debug, Parser)]
#[command(name = "kvctl", version, about)]
struct Args {
    /// URLs of some nodes, comma separated; one that lives is enough
    #[arg(
        long,
        env = "KV_SEEDS",
        value_delimiter = ',',
        default_value = "http://localhost:8081,http://localhost:8082,http://localhost:8083"
    )]
    seeds: Vec<String>,
    /// Seconds to go on trying
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sets KEY to VALUE and prints OK
    Put { key: String, value: String },
    /// Prints the value of KEY
    Get {
        key: String,
        /// Read any node's state, which may be old
        #[arg(long)]
        serializable: bool,
    },
    /// Deletes KEY and prints OK
    Del {
        key: String,
        /// Print how many keys were deleted instead
        #[arg(long)]
        count: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.timeout.is_finite() || args.timeout <= 0.0 {
        complain("--timeout must be a positive number of seconds");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&args)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(if matches!(error, KvClientError::NoLeader(_)) { 3 } else { 1 })
        }
    }
}

fn complain(message: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(stderr(), "kvctl: {message}");
}

fn print(bytes: &[u8]) {
    let mut out = stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

async fn run(args: &Args) -> Result<ExitCode, KvClientError> {
    let client = KvClient::new(&args.seeds, Duration::from_secs_f64(args.timeout.min(86_400.0)));
    let json = args.output == Output::Json;
    match &args.action {
        Action::Put { key, value } => {
            let answer = client.put(key.as_bytes(), value.clone().into()).await?;
            print(if json { &answer.body } else { b"OK" });
        }
        Action::Get { key, serializable } => {
            let Some(answer) = client.get(key.as_bytes(), *serializable).await? else {
                complain(&format!("key '{key}' not found"));
                return Ok(ExitCode::FAILURE);
            };
            if json { print(describe(key, &answer).to_string().as_bytes()) } else { print(&answer.body) }
        }
        Action::Del { key, count } => {
            let deleted = client.delete(key.as_bytes()).await?;
            match (json, count) {
                (true, _) => print(json!({ "deleted": deleted }).to_string().as_bytes()),
                (false, true) => print(deleted.to_string().as_bytes()),
                (false, false) => print(b"OK"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(key: &str, answer: &HttpAnswer) -> serde_json::Value {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    json!({
        "key": key,
        "value": base64::engine::general_purpose::STANDARD.encode(&answer.body),
        "revision": number("x-kv-revision"),
        "mod_revision": number("x-kv-mod-revision"),
        "version": number("x-kv-version"),
    })
}
