//! What is broken during a trial, and when: the profile's faults on the servers of the subject.
//!
//! The load goes on meanwhile. Every fault is undone, also when the trial ends early, so that the next trial
//! meets a server that answers; a server that does not come back fails the trial.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use queuebench_reports::record;
use queuebench_testcontainers::{FaultError, Running};

use super::deaths::death;
use super::nodes::{NodeError, Nodes};
use crate::clock::{self, Nanos};
use crate::profile::{Fault, FaultKind, FaultTarget};
use crate::ui::TrialBar;

/// The faults of one trial.
pub(super) struct Timeline<'a> {
    acts: Vec<(Fault, Victim<'a>)>,
    done: Mutex<Vec<record::Fault>>,
    deaths: Mutex<Vec<record::Death>>,
}

/// What a fault is done to.
#[derive(Clone, Copy)]
enum Victim<'a> {
    Server(&'a Running),
    /// A node of a cluster; which one is seen when its time has come.
    Node(&'a Nodes, FaultTarget),
}

/// A fault that could not be done or undone.
#[derive(Debug, thiserror::Error)]
#[error("fault at {at_s} s: {source}")]
pub struct TimelineError {
    at_s: f64,
    source: Cause,
}

/// Why.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Server(#[from] FaultError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl<'a> Timeline<'a> {
    /// Those of `faults` that hit one of `servers` or one of `nodes`.
    pub(super) fn new(faults: &[Fault], servers: &[&'a Running], nodes: Option<&'a Nodes>) -> Self {
        let hits = |fault: &Fault| {
            let fault = *fault;
            let servers = servers.iter().filter(move |s| fault.hits(s.backend()));
            let node = nodes.zip(fault.cluster_target()).map(|(nodes, target)| Victim::Node(nodes, target));
            servers.map(|server| Victim::Server(server)).chain(node).map(move |victim| (fault, victim))
        };
        let acts = faults.iter().flat_map(hits).collect();
        Self { acts, done: Mutex::default(), deaths: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.acts.is_empty()
    }

    /// Does everything at its time, counted from `origin`.
    pub(super) async fn play(&self, origin: Nanos, bar: &TrialBar) -> Result<(), TimelineError> {
        let all = join_all(self.acts.iter().map(|(fault, victim)| self.act(*fault, *victim, origin, bar)));
        // All have ended before the first failure is told, so none is left half done.
        all.await.into_iter().collect()
    }

    /// What was done so far and what came of it, in order of time.
    pub(super) fn take(&self) -> (Vec<record::Fault>, Vec<record::Death>) {
        let mut done = std::mem::take(&mut *self.done.lock());
        done.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        let mut deaths = std::mem::take(&mut *self.deaths.lock());
        deaths.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        (done, deaths)
    }

    async fn act(
        &self,
        fault: Fault,
        victim: Victim<'_>,
        origin: Nanos,
        bar: &TrialBar,
    ) -> Result<(), TimelineError> {
        let due = origin + u64::try_from(fault.at.0.as_nanos()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_nanos(due.saturating_sub(clock::now()))).await;
        let done = match victim {
            Victim::Server(server) => self.on_server(fault, server, origin, bar).await.map_err(Cause::from),
            Victim::Node(nodes, target) => {
                self.on_node(fault, nodes, target, origin, bar).await.map_err(Cause::from)
            }
        };
        done.map_err(|source| TimelineError { at_s: fault.at.0.as_secs_f64(), source })
    }

    async fn on_server(
        &self,
        fault: Fault,
        server: &Running,
        origin: Nanos,
        bar: &TrialBar,
    ) -> Result<(), FaultError> {
        let name = server.backend().name();
        let place = self.begin(fault, name, origin, bar);
        let wait = fault.duration.map(|span| span.0).unwrap_or_default();
        match fault.kind {
            FaultKind::Kill => {
                server.kill().await?;
                tokio::time::sleep(wait).await;
                server.restart().await?;
            }
            FaultKind::Pause => {
                server.pause().await?;
                tokio::time::sleep(wait).await;
                server.resume().await?;
            }
            FaultKind::Restart => server.restart().await?,
        }
        self.end(place, name, origin, bar);
        Ok(())
    }

    async fn on_node(
        &self,
        fault: Fault,
        nodes: &Nodes,
        target: FaultTarget,
        origin: Nanos,
        bar: &TrialBar,
    ) -> Result<(), NodeError> {
        let node = nodes.choose(target).await?;
        let was_leader = target == FaultTarget::ClusterLeader;
        let name = format!("{} ({})", nodes.id(node), if was_leader { "leader" } else { "follower" });
        let place = self.begin(fault, &name, origin, bar);
        let wait = fault.duration.map(|span| span.0).unwrap_or_default();
        match fault.kind {
            FaultKind::Kill => {
                let died = death(nodes, node, was_leader, wait, since_s(origin)).await?;
                self.deaths.lock().push(died);
            }
            FaultKind::Pause => {
                nodes.freeze(node, true).await?;
                tokio::time::sleep(wait).await;
                nodes.freeze(node, false).await?;
            }
            FaultKind::Restart => {
                nodes.end(node).await?;
                nodes.start_again(node).await?;
            }
        }
        self.end(place, &name, origin, bar);
        Ok(())
    }

    /// Notes that a fault begins now; gives its place among those noted.
    fn begin(&self, fault: Fault, target: &str, origin: Nanos, bar: &TrialBar) -> usize {
        let start_s = since_s(origin);
        bar.remark(&format!("{} {target} at {start_s:.1} s", fault.kind.name()));
        let mut done = self.done.lock();
        done.push(record::Fault {
            kind: fault.kind.name().to_owned(),
            target: target.to_owned(),
            start_s,
            end_s: None,
        });
        done.len() - 1
    }

    fn end(&self, place: usize, target: &str, origin: Nanos, bar: &TrialBar) {
        let end_s = since_s(origin);
        self.done.lock()[place].end_s = Some(end_s);
        bar.remark(&format!("{target} answers again at {end_s:.1} s"));
    }
}

fn since_s(origin: Nanos) -> f64 {
    Duration::from_nanos(clock::now().saturating_sub(origin)).as_secs_f64()
}
