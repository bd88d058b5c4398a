//! A node as a program: its flags, its life, its exit codes. `clusternode` is a thin shell around it.
//!
//! Ends with 0 when asked to (interrupt, termination), 1 when it cannot start or its disk fails. A second
//! interrupt ends it at once.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::{Builder, Event, Hooks, Options, health::HealthSettings, tls::TlsOptions};
use crate::raft::program;

/// A node of a cluster that shares members, partitions, custom data and locks.
#[derive(Debug, Parser)]
#[command(name = "clusternode", version, about)]
pub struct Args {
    /// Id of this node, unique in the cluster
    #[arg(long, env = "NODE_ID")]
    node_id: String,
    /// A name for people; made from the id if not given
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// Where HTTP listens, `:8080` or `host:8080`
    #[arg(long, env = "HTTP_ADDR", default_value = ":8080")]
    http_addr: String,
    /// Where Raft listens; follows from the HTTP address if not given
    #[arg(long, env = "RAFT_ADDR", default_value = "")]
    raft_addr: String,
    /// Where others reach HTTP, if not under the address it listens on
    #[arg(long, env = "ADVERTISE_ADDR", default_value = "")]
    advertise_addr: String,
    /// Where others reach Raft, if not under the address it listens on
    #[arg(long, env = "ADVERTISE_RAFT_ADDR", default_value = "")]
    advertise_raft_addr: String,
    /// Whether to begin a cluster, unless known members have one; without known members a node does so anyway
    #[arg(long, env = "BOOTSTRAP", action = clap::ArgAction::Set, default_value = "false", value_parser = clap::builder::FalseyValueParser::new())]
    bootstrap: bool,
    /// HTTP addresses of known members, comma separated, without a scheme
    #[arg(long, env = "JOIN_ADDR", value_delimiter = ',')]
    join_addr: Vec<String>,
    /// Where everything is kept
    #[arg(long, env = "DATA_DIR", default_value = "./clusterkit-data")]
    data_dir: PathBuf,
    /// Name of the cluster
    #[arg(long, env = "CLUSTER_NAME", default_value = "clusterkit-cluster")]
    cluster_name: String,
    /// Partitions of a new cluster; what is no number counts as 16
    #[arg(long, env = "PARTITION_COUNT", default_value = "16")]
    partition_count: String,
    /// Nodes in charge of each partition of a new cluster; what is no number counts as 3
    #[arg(long, env = "REPLICATION_FACTOR", default_value = "3")]
    replication_factor: String,
    /// Remove members that do not answer
    #[arg(long, env = "HEALTH_CHECK", action = clap::ArgAction::Set, default_value = "true", value_parser = clap::builder::FalseyValueParser::new())]
    health_check: bool,
    /// Milliseconds between two questions to the same member
    #[arg(long, env = "HEALTH_INTERVAL_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(50..))]
    health_interval_ms: u64,
    /// Milliseconds for one answer
    #[arg(long, env = "HEALTH_TIMEOUT_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(50..))]
    health_timeout_ms: u64,
    /// Questions in a row that must go unanswered
    #[arg(long, env = "HEALTH_FAILURES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    health_failures: u32,
    /// Further addresses of the application, `name=host:port`, comma separated
    #[arg(long, env = "SERVICES", value_delimiter = ',', value_parser = service)]
    services: Vec<(String, String)>,
    /// Asked for on joining and changing anything
    #[arg(long, env = "CLUSTER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Ask for the secret, or a certificate, on looking too; only /health and /ready stay open
    #[arg(long, env = "CLUSTER_PROTECT_READS", action = clap::ArgAction::Set, default_value = "false", value_parser = clap::builder::FalseyValueParser::new())]
    protect_reads: bool,
    /// This node's certificate (PEM): HTTP and Raft then speak TLS only
    #[arg(long, env = "TLS_CERT", requires_all = ["tls_key", "tls_authority"])]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authority of all members' certificates (PEM)
    #[arg(long, env = "TLS_AUTHORITY", requires = "tls_cert")]
    tls_authority: Option<PathBuf>,
    /// Ask for a member's certificate on joining, replication, administration and custom data
    #[arg(long, env = "TLS_CLIENT_CERTIFICATES", action = clap::ArgAction::Set, default_value = "false", value_parser = clap::builder::FalseyValueParser::new())]
    tls_client_certificates: bool,
    /// Leave the cluster when asked to end
    #[arg(long, env = "LEAVE_ON_STOP")]
    leave: bool,
    /// What to log, as in RUST_LOG
    #[arg(long, env = "LOG", default_value = "info,openraft=warn")]
    log: String,
}

fn service(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("a service is written name=host:port")?;
    Ok((name.to_owned(), address.to_owned()))
}

impl Args {
    fn options(self) -> Options {
        let files = self.tls_cert.zip(self.tls_key).zip(self.tls_authority);
        let tls = files.map(|((certificates, key), authority)| TlsOptions {
            certificates,
            key,
            authority,
            require_client_certificates: self.tls_client_certificates,
        });
        let known = self.join_addr.into_iter().filter(|address| !address.is_empty());
        Options {
            node_name: self.node_name,
            raft_addr: self.raft_addr,
            advertise_addr: self.advertise_addr,
            advertise_raft_addr: self.advertise_raft_addr,
            data_dir: self.data_dir,
            cluster_name: self.cluster_name,
            partition_count: self.partition_count.parse().unwrap_or(0),
            replication_factor: self.replication_factor.parse().unwrap_or(0),
            join_addrs: known.collect(),
            bootstrap: self.bootstrap,
            remove_silent: self.health_check,
            health: HealthSettings {
                interval: Duration::from_millis(self.health_interval_ms),
                timeout: Duration::from_millis(self.health_timeout_ms),
                failure_threshold: self.health_failures,
            },
            services: self.services.into_iter().collect(),
            shared_secret: self.secret.filter(|secret| !secret.is_empty()),
            tls,
            protect_reads: self.protect_reads,
            ..Options::new(self.node_id, self.http_addr)
        }
    }
}

/// Runs a node until it is asked to stop or fails. Installs logging for the whole process.
pub fn run(args: Args) -> ExitCode {
    let filter = args.log.clone();
    program::run(&filter, serve(args))
}

/// Tells the log what the cluster tells.
struct Log;

impl Hooks for Log {
    fn event(&self, event: &Event) {
        match event {
            // There is one for each copy of a partition.
            Event::PartitionChange(change) => tracing::debug!(?change, "partition change"),
            Event::NodeJoin(join) => tracing::info!(node = %join.node.id, size = join.cluster_size, "joined"),
            Event::NodeRejoin(rejoin) => {
                tracing::info!(node = %rejoin.node.id, kind = ?rejoin.kind, away = ?rejoin.offline, "came back");
            }
            Event::NodeLeave(leave) => tracing::info!(node = %leave.node.id, reason = ?leave.reason, "left"),
            Event::RebalanceComplete(done) => {
                let moved = done.rebalance.partitions_to_move;
                tracing::info!(moved, trigger = ?done.rebalance.trigger, took = ?done.duration, "rebalanced");
            }
            Event::HealthChange(change) => {
                tracing::warn!(status = ?change.status, silent = ?change.unhealthy_node_ids, "health changed");
            }
            Event::StateReplaced(replaced) => tracing::info!(?replaced, "caught up by a snapshot"),
            Event::RebalanceStart(_) | Event::LeaseEnd(_) => tracing::debug!(?event, "told"),
        }
    }

    fn missed(&self, events: u64) {
        tracing::warn!(events, "too slow to log");
    }
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let leave = args.leave;
    let kit = Builder::from(args.options()).hooks(Arc::new(Log)).start().await?;
    // Whoever starts nodes on free ports reads here where they listen.
    let (scheme, http) = (kit.0.settings.scheme(), kit.node().http_addr());
    tracing::info!(raft = kit.0.settings.raft_addr, "{} listening on {scheme}://{http}", kit.node_id());
    tokio::select! {
        () = asked_to_end() => {}
        reason = kit.failed() => return Err(format!("this node has failed: {reason}").into()),
    }
    let end = async {
        if leave && let Err(error) = kit.leave().await {
            tracing::warn!(%error, "not let go, this node stops as a member");
        }
        kit.stop().await;
    };
    tokio::select! {
        () = end => {}
        () = asked_to_end() => tracing::warn!("asked to end twice"),
    }
    Ok(())
}

async fn asked_to_end() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
