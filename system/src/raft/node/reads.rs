//! Linearizable reads by read index, batched.
//!
//! A round asks the leader for the index a read must see, and the leader confirms with a majority that it
//! still leads. One round is under way at a time; reads that arrive meanwhile wait for the next one and share
//! it, so that rounds per second do not grow with reads per second. A round that fails is never reused: every
//! retry begins after it. At a follower the question goes to the leader, and the read is served here.
//! Bounds: 65,536 waiting reads, more are refused; a round ends within its timeout.

use std::time::Duration;

use openraft::{Raft, rt::WatchReceiver};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::raft::{
    machine::{Machine, Replica},
    network::{Network, link::Link, wire::FrameKind},
    types::{NodeId, Types},
};

const WAITING_MAX: usize = 65_536;
/// Reads that share one round at most.
const ROUND_MAX: usize = 8192;

/// How a read makes sure that it is not stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadPolicy {
    /// Confirms leadership with a majority after the read began. Trusts no clock.
    #[default]
    ReadIndex,
    /// Trusts the leader's lease: clocks must run at the same rate. Only on the leader.
    Lease,
}

/// Why a read could not be made linearizable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// There is no leader, or it does not answer.
    #[error("no leader confirmed the read: {0}")]
    NoLeader(String),
    /// Too many reads wait.
    #[error("too many reads under way")]
    Busy,
    /// The state did not catch up in time.
    #[error("the state did not catch up in time")]
    Behind,
}

/// A round's result: the log index up to which the state must be applied.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ReadIndex {
    pub(crate) index: u64,
}

struct Waiting {
    /// Must the round be run on this node as leader?
    here: bool,
    policy: ReadPolicy,
    answer: oneshot::Sender<Result<ReadIndex, ReadError>>,
}

/// Where reads get their index.
#[derive(Clone)]
pub(crate) struct ReadIndexes {
    waiting: mpsc::Sender<Waiting>,
    applied: watch::Receiver<u64>,
    timeout: Duration,
}

/// Starts the task that runs the rounds; it ends with `stop`.
pub(crate) fn start<M: Machine>(
    raft: Raft<Types, Replica<M>>,
    network: Network,
    applied: watch::Receiver<u64>,
    timeout: Duration,
    stop: CancellationToken,
) -> (ReadIndexes, AbortOnDropHandle<()>) {
    let (waiting, queued) = mpsc::channel(WAITING_MAX);
    let rounds = Rounds { raft, network, timeout, leader: None };
    let task = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = rounds.run(queued) => {}
        }
    };
    (ReadIndexes { waiting, applied, timeout }, AbortOnDropHandle::new(tokio::spawn(task)))
}

impl ReadIndexes {
    async fn ask(&self, here: bool, policy: ReadPolicy) -> Result<ReadIndex, ReadError> {
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(Waiting { here, policy, answer }).map_err(|_| ReadError::Busy)?;
        answered.await.unwrap_or_else(|_| Err(ReadError::NoLeader("this node stops".into())))
    }

    /// For a follower that asks: a round here, or nothing.
    pub(crate) async fn on_leader(&self) -> Result<ReadIndex, ReadError> {
        self.ask(true, ReadPolicy::ReadIndex).await
    }

    /// Returns once the state is applied as far as a read that begins now must see.
    pub(crate) async fn barrier(&self, policy: ReadPolicy) -> Result<(), ReadError> {
        let read = self.ask(false, policy).await?;
        let mut applied = self.applied.clone();
        let caught_up = applied.wait_for(|next| *next > read.index);
        match tokio::time::timeout(self.timeout, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::NoLeader("this node stops".into())),
            Err(_) => Err(ReadError::Behind),
        }
    }
}

struct Rounds<M: Machine> {
    raft: Raft<Types, Replica<M>>,
    network: Network,
    timeout: Duration,
    leader: Option<(NodeId, String, Link)>,
}

impl<M: Machine> Rounds<M> {
    async fn run(mut self, mut queued: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::new();
        while queued.recv_many(&mut batch, ROUND_MAX).await > 0 {
            // The round begins after every read in it: that is what makes it count for them.
            let lease = batch.iter().all(|read| read.policy == ReadPolicy::Lease);
            let local = tokio::time::timeout(self.timeout, self.local(lease)).await;
            let local =
                local.unwrap_or_else(|_| Err(ReadError::NoLeader("no majority confirmed in time".into())));
            let remote = match &local {
                Err(_) if batch.iter().any(|read| !read.here) => Some(self.remote().await),
                _ => None,
            };
            for read in batch.drain(..) {
                let result = match &remote {
                    Some(remote) if !read.here => remote.clone(),
                    _ => local.clone(),
                };
                let _ = read.answer.send(result);
            }
        }
    }

    async fn local(&self, lease: bool) -> Result<ReadIndex, ReadError> {
        let leads = self.raft.metrics().borrow_watched().current_leader == Some(*self.raft.node_id());
        if !leads {
            return Err(ReadError::NoLeader("this node does not lead".into()));
        }
        let policy = if lease { openraft::ReadPolicy::LeaseRead } else { openraft::ReadPolicy::ReadIndex };
        metrics::counter!("raft_read_rounds_total").increment(1);
        match self.raft.get_read_log_id(policy).await {
            Ok((read, _)) => Ok(ReadIndex { index: read.log_id().index }),
            Err(error) => Err(ReadError::NoLeader(error.to_string())),
        }
    }

    async fn remote(&mut self) -> Result<ReadIndex, ReadError> {
        let leader = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.current_leader.filter(|leader| leader != self.raft.node_id()).and_then(|leader| {
                let node = metrics.membership_config.membership().get_node(&leader)?;
                Some((leader, node.url.clone()))
            })
        };
        let Some((node, url)) = leader else {
            return Err(ReadError::NoLeader("there is none".into()));
        };
        if self.leader.as_ref().is_none_or(|(known, at, _)| *known != node || *at != url) {
            let link = Link::new(self.network.identity.clone(), self.network.dial.clone(), node, url.clone());
            self.leader = Some((node, url, link));
        }
        let Some((_, _, link)) = &self.leader else {
            return Err(ReadError::NoLeader("there is none".into()));
        };
        let asked = link.call(FrameKind::ReadIndex, bytes::Bytes::new(), self.timeout).await;
        let answer = asked.map_err(|error| ReadError::NoLeader(error.to_string()))?;
        serde_json::from_slice(&answer).map_err(|error| ReadError::NoLeader(error.to_string()))
    }
}
