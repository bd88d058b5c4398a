//! The nodes of a cluster subject: processes of our own, fresh for every trial, killed, frozen and started
//! again one by one.
//!
//! They are this very program (`queuebench clusternode`), each with ports that it keeps, so that one that was
//! killed comes back where it was. Their data is removed when they have stopped; their logs stay with the run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use queuebench_testcontainers::{Port, Service, ServiceError, ServiceSpec};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::cluster::ClusterConfig;
use crate::cluster::view::{self, View};
use crate::profile::FaultTarget;

/// Until a node listens.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Until all nodes show each other and every partition.
const FORM_LIMIT: Duration = Duration::from_secs(60);
/// Until a node has stopped.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at what the nodes show.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// Of the clusters of trials, which never meet.
const CLUSTER_NAME: &str = "queuebench";

/// The nodes of one trial.
pub(super) struct Nodes {
    config: ClusterConfig,
    /// Before the names of their logs.
    name: String,
    data: PathBuf,
    logs: PathBuf,
    nodes: Vec<Node>,
}

/// One node, which may be down.
struct Node {
    id: String,
    http: Port,
    raft: Port,
    service: Mutex<Option<Service>>,
    /// 0 while it is down.
    pid: AtomicI32,
}

/// What became of a node that should do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeError {
    /// It did not start, or could not be reached by a signal.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is nothing to be done with a node that is down.
    #[error("{0} is down")]
    Down(String),
    /// Nobody can be chosen.
    #[error("no node tells who leads")]
    NoLeader,
}

impl Nodes {
    /// Starts what `config` describes, waits until all nodes agree on all partitions, and fills in where they
    /// are.
    pub(super) async fn start(
        config: &mut ClusterConfig,
        name: &str,
        data: &Path,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let node = |number: u16| -> std::io::Result<Node> {
            Ok(Node {
                id: format!("node-{number}"),
                http: Port::free()?,
                raft: Port::free()?,
                service: Mutex::new(None),
                pid: AtomicI32::new(0),
            })
        };
        let nodes = (1..=config.nodes).map(node).collect::<std::io::Result<Vec<_>>>();
        let nodes = nodes.context("choosing ports for the nodes of a cluster")?;
        config.endpoints = nodes.iter().map(Node::endpoint).collect();
        let all = Self {
            config: config.clone(),
            name: name.to_owned(),
            data: data.to_owned(),
            logs: logs.to_owned(),
            nodes,
        };
        let first = [all.nodes[0].endpoint()];
        all.launch(0, &[]).await?;
        // All at once through the first, as a deployment does.
        let others = (1..all.nodes.len()).map(|at| all.launch(at, &first));
        join_all(others).await.into_iter().collect::<Result<(), _>>()?;
        let everybody: Vec<_> = (0..all.nodes.len()).collect();
        all.agreement(&everybody, FORM_LIMIT)
            .await
            .with_context(|| format!("the nodes of {name} did not agree within {FORM_LIMIT:?}"))?;
        Ok(all)
    }

    /// Starts a node that is down.
    async fn launch(&self, at: usize, known: &[String]) -> Result<(), NodeError> {
        let (node, config) = (&self.nodes[at], &self.config);
        let data = self.data.join(&node.id).display().to_string();
        let mut args = vec!["clusternode".to_owned()];
        for (flag, value) in [
            ("--node-id", node.id.clone()),
            ("--http-addr", node.endpoint()),
            ("--raft-addr", format!("127.0.0.1:{}", node.raft.number())),
            ("--data-dir", data),
            ("--cluster-name", CLUSTER_NAME.to_owned()),
            ("--partition-count", config.partitions.to_string()),
            ("--replication-factor", config.replication_factor.to_string()),
            ("--health-interval-ms", config.health_interval_ms.to_string()),
            ("--health-timeout-ms", config.health_timeout_ms.to_string()),
            ("--health-failures", config.health_failures.to_string()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        // An environment made for one deployment must not leak into a trial.
        let mut env: Vec<_> = ["ADVERTISE_ADDR", "ADVERTISE_RAFT_ADDR", "CLUSTER_SECRET", "NODE_NAME"]
            .map(|name| (name.to_owned(), String::new()))
            .into();
        env.push(("JOIN_ADDR".to_owned(), known.join(",")));
        let spec = ServiceSpec {
            name: format!("{}-{}", self.name, node.id),
            program: std::env::current_exe()
                .map_err(|source| ServiceError::Spawn { name: node.id.clone(), source })?,
            args,
            env,
            log_dir: self.logs.clone(),
            time_limit: START_LIMIT,
        };
        let mut service = node.service.lock().await;
        let started = Service::start(spec).await?;
        node.pid.store(started.pid(), Ordering::Relaxed);
        *service = Some(started);
        Ok(())
    }

    /// Processes that run.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.nodes.iter().map(|node| node.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn id(&self, at: usize) -> &str {
        &self.nodes[at].id
    }

    /// Every node but one.
    pub(super) fn others(&self, at: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != at).collect()
    }

    /// The node that a fault is meant for: the leader, or the last of the others.
    pub(super) async fn choose(&self, target: FaultTarget) -> Result<usize, NodeError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            for node in &self.nodes {
                let Some(leader) = view::leader(&node.endpoint()).await else { continue };
                let leads = |at: &usize| self.nodes[*at].id == leader;
                let mut all = 0..self.nodes.len();
                let chosen = match target {
                    FaultTarget::ClusterLeader => all.find(leads),
                    _ => all.rev().find(|at| !leads(at)),
                };
                if let Some(chosen) = chosen {
                    return Ok(chosen);
                }
            }
            if Instant::now() >= deadline {
                return Err(NodeError::NoLeader);
            }
            sleep(LOOK).await;
        }
    }

    /// What these nodes show, all asked at once.
    pub(super) async fn views(&self, of: &[usize]) -> Vec<Option<View>> {
        let endpoints: Vec<_> = of.iter().map(|at| self.nodes[*at].endpoint()).collect();
        join_all(endpoints.iter().map(|endpoint| View::of(endpoint))).await
    }

    /// Whether these views agree that exactly these nodes are members.
    pub(super) fn agree(&self, views: &[Option<View>], members: &[usize]) -> bool {
        let ids: BTreeSet<_> = members.iter().map(|at| self.nodes[*at].id.clone()).collect();
        view::agree(views, &ids, usize::from(self.config.replication_factor))
    }

    /// Waits until these nodes agree that they are the members; says how long it took.
    pub(super) async fn agreement(&self, members: &[usize], limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        loop {
            let views = self.views(members).await;
            if self.agree(&views, members) {
                return Some(began.elapsed());
            }
            if began.elapsed() >= limit {
                return None;
            }
            sleep(LOOK).await;
        }
    }

    /// Hooks that these nodes have delivered, and events that theirs missed, in all.
    pub(super) async fn hooks(&self, of: &[usize]) -> (u64, u64) {
        let endpoints: Vec<_> = of.iter().map(|at| self.nodes[*at].endpoint()).collect();
        let counts = join_all(endpoints.iter().map(|endpoint| view::hooks(endpoint))).await;
        counts.into_iter().flatten().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Ends a node without a word.
    pub(super) async fn kill(&self, at: usize) -> Result<(), NodeError> {
        let service = self.take(at).await?;
        Ok(service.kill().await?)
    }

    /// Ends a node in order.
    pub(super) async fn end(&self, at: usize) -> Result<(), NodeError> {
        let service = self.take(at).await?;
        Ok(service.stop(STOP_LIMIT).await?)
    }

    async fn take(&self, at: usize) -> Result<Service, NodeError> {
        let node = &self.nodes[at];
        let service = node.service.lock().await.take();
        node.pid.store(0, Ordering::Relaxed);
        service.ok_or_else(|| NodeError::Down(node.id.clone()))
    }

    /// Starts a node again that was ended, on the data it had; it asks any of the others.
    pub(super) async fn start_again(&self, at: usize) -> Result<(), NodeError> {
        let known: Vec<_> = self.others(at).into_iter().map(|other| self.nodes[other].endpoint()).collect();
        self.launch(at, &known).await
    }

    /// Freezes a node, or lets it go on.
    pub(super) async fn freeze(&self, at: usize, frozen: bool) -> Result<(), NodeError> {
        let service = self.nodes[at].service.lock().await;
        let service = service.as_ref().ok_or_else(|| NodeError::Down(self.nodes[at].id.clone()))?;
        if frozen {
            service.pause()?
        } else {
            service.resume()?
        }
        Ok(())
    }

    /// Stops all of them at once, since the last ones have no majority to say goodbye to, and removes their
    /// data; says what did not end as it should.
    pub(super) async fn stop(self) -> Vec<String> {
        let stops = self.nodes.iter().map(|node| async {
            let service = node.service.lock().await.take();
            match service {
                Some(service) => service.stop(STOP_LIMIT).await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        });
        let problems = join_all(stops).await.into_iter().filter_map(Result::err).collect();
        let _ = std::fs::remove_dir_all(&self.data);
        problems
    }
}

impl Node {
    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.http.number())
    }
}
