//! A node as a program: its flags, its life, its exit codes. `kvnode` is a thin shell around it.
//!
//! Ends with 0 when asked to (interrupt, termination), 1 when it cannot start or has failed.

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::{net::TcpListener, signal::unix::SignalKind};

use super::{server::KvServer, service::Limits};
use crate::raft::{identity::Membership, node::NodeConfig, program};

/// A member of a durable, linearizable key-value cluster.
#[derive(Debug, Parser)]
#[command(name = "kvnode", version, about)]
pub struct Args {
    /// Name of this node, unique in the cluster
    #[arg(long, env = "KV_ID")]
    id: String,
    /// Address to listen on, for clients and peers; without a host, on all interfaces
    #[arg(long, env = "KV_ADDR", default_value = ":8081")]
    addr: String,
    /// Public URL of this node
    #[arg(long, env = "KV_ADVERTISE", default_value = "http://localhost:8081", value_parser = url)]
    advertise: String,
    /// URLs of the other founding members, comma separated
    #[arg(long, env = "KV_PEERS", value_delimiter = ',', value_parser = url, conflicts_with = "join")]
    peers: Vec<String>,
    /// Data directory
    #[arg(long, env = "KV_DATA")]
    data: PathBuf,
    /// Start empty and wait to be added to a cluster
    #[arg(long, env = "KV_JOIN")]
    join: bool,
    /// Log entries after which a snapshot is taken
    #[arg(long, env = "KV_SNAPSHOT_ENTRIES", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(10..))]
    snapshot_entries: u64,
    /// Estimated bytes of data at which writes stop; 0 for no limit
    #[arg(long, env = "KV_QUOTA_BYTES", default_value_t = Limits::default().quota_bytes)]
    quota_bytes: u64,
    /// Revisions of history that are kept; 0 for all
    #[arg(long, env = "KV_HISTORY_REVISIONS", default_value_t = Limits::default().history_revisions)]
    history_revisions: u64,
    /// Milliseconds between heartbeats
    #[arg(long, env = "KV_HEARTBEAT_MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..))]
    heartbeat_ms: u64,
    /// Least milliseconds without a leader before an election
    #[arg(long, env = "KV_ELECTION_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..))]
    election_ms: u64,
    /// Pre-allocated bytes of a log segment
    #[arg(long, env = "KV_SEGMENT_BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(65_536..))]
    segment_bytes: u64,
    /// Reach the peer with this public URL at another one, as in http://kv2:8080=http://127.0.0.1:9002;
    /// repeated or comma separated
    #[arg(long, env = "KV_DETOURS", value_delimiter = ',', value_name = "URL=URL", value_parser = detour)]
    detour: Vec<(String, String)>,
    /// What to log, as in RUST_LOG
    #[arg(long, env = "KV_LOG", default_value = "info,openraft=warn")]
    log: String,
}

fn url(text: &str) -> Result<String, String> {
    let url = text.trim().trim_end_matches('/');
    let host = url.strip_prefix("http://").ok_or("a URL must begin with http://")?;
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(url.to_owned()),
        _ => Err("a URL must be of the form http://host:port".into()),
    }
}

fn detour(text: &str) -> Result<(String, String), String> {
    let (public, other) = text.split_once('=').ok_or("a detour must be of the form URL=URL")?;
    Ok((url(public)?, url(other)?))
}

/// Runs a node until it is asked to stop or fails. Installs logging and metrics for the whole process.
pub fn run(args: Args) -> ExitCode {
    let filter = args.log.clone();
    program::run(&filter, serve(args))
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let address =
        if args.addr.starts_with(':') { format!("0.0.0.0{}", args.addr) } else { args.addr.clone() };
    let listener = TcpListener::bind(&address).await.map_err(|error| format!("--addr {address}: {error}"))?;
    let membership = if args.join {
        Membership::Joiner
    } else {
        let mut urls = args.peers.clone();
        urls.push(args.advertise.clone());
        urls.sort();
        urls.dedup();
        Membership::Founder(urls)
    };
    let config = NodeConfig {
        heartbeat: Duration::from_millis(args.heartbeat_ms),
        election_timeout: Duration::from_millis(args.election_ms),
        snapshot_entries: args.snapshot_entries,
        segment_bytes: args.segment_bytes,
        detours: args.detour.iter().cloned().collect(),
        ..NodeConfig::new(&args.id, &args.advertise, membership, &args.data)
    };
    let limits = Limits { quota_bytes: args.quota_bytes, history_revisions: args.history_revisions };
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let server = KvServer::start(listener, config, limits, Some(metrics)).await?;
    tracing::info!(id = args.id, address = %server.address(), url = args.advertise, "serving");

    let mut fatal = server.kv().node().fatal();
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        failed = fatal.wait_for(Option::is_some) => {
            let reason = failed.ok().and_then(|reason| reason.clone());
            // What is acknowledged is on disk; nothing orderly can be done with a failed one.
            return Err(reason.unwrap_or_else(|| "this node has failed".into()).into());
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = server.shutdown() => Ok(()),
        _ = tokio::signal::ctrl_c() => Err("interrupted again".into()),
    }
}
