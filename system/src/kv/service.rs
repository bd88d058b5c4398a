//! Writes and reads of the store, with their limits, whatever protocol they come by.
//!
//! Checks before proposing: size, and the quota. The first write over the quota raises an alarm that is
//! replicated and stays until it is cleared; while it is raised puts are refused and deletes work. The leader
//! compacts history beyond what is kept.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use prost::Message;
use tokio_util::task::AbortOnDropHandle;

use super::{
    command::{Action, Alarm, Answer, Command, Compact, Refusal},
    machine::KvMachine,
    store::Store,
};
use crate::raft::node::{Node, ReadPolicy, WriteError, reads::ReadError};

/// Largest request, as proposed.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
const COMPACT_PERIOD: Duration = Duration::from_secs(1);

/// Limits of a store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Estimated bytes of keys, values and history at which writes stop; 0 for no limit.
    pub quota_bytes: u64,
    /// Revisions of history that are kept; 0 for all.
    pub history_revisions: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { quota_bytes: 2 << 30, history_revisions: 10_000 }
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Shows everything acknowledged before it began.
    #[default]
    Linearizable,
    /// The same, trusting the leader's lease and so the rate of clocks.
    Lease,
    /// This node's state, which may be old.
    Serializable,
}

/// Why a command was not done, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// Over the size limit.
    #[error("request is too large: {0} bytes, at most {REQUEST_BYTES_MAX}")]
    TooLarge(usize),
    /// The quota is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// The state refused the command.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// Replication failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A running store.
#[derive(Debug)]
pub struct Kv {
    node: Arc<Node<KvMachine>>,
    limits: Limits,
    compactor: parking_lot::Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Kv {
    /// Serves the state of `node`.
    #[must_use]
    pub fn new(node: Arc<Node<KvMachine>>, limits: Limits) -> Arc<Self> {
        let kv = Arc::new(Self { node, limits, compactor: parking_lot::Mutex::new(None) });
        if limits.history_revisions > 0 {
            let task = tokio::spawn(compact_regularly(Arc::downgrade(&kv)));
            *kv.compactor.lock() = Some(AbortOnDropHandle::new(task));
        }
        kv
    }

    /// The member underneath.
    #[must_use]
    pub fn node(&self) -> &Arc<Node<KvMachine>> {
        &self.node
    }

    /// Replicates a command.
    ///
    /// # Errors
    /// See [`KvError`]; only [`WriteError::Unknown`] leaves open whether it was done.
    pub async fn write(&self, command: &Command) -> Result<Answer, KvError> {
        let bytes = command.encode_bytes();
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(KvError::TooLarge(bytes.len()));
        }
        let cost = command.cost_bytes();
        if cost > 0 && self.limits.quota_bytes > 0 {
            let (used, raised) = self.node.machine().read(|store| (store.bytes(), store.no_space()));
            if raised && self.node.leads() {
                return Err(KvError::NoSpace);
            }
            if used + cost > self.limits.quota_bytes && self.node.leads() {
                tracing::warn!(used, quota = self.limits.quota_bytes, "the quota is used up, writes stop");
                self.set_alarm(true).await?;
                return Err(KvError::NoSpace);
            }
        }
        self.propose(bytes).await
    }

    async fn propose(&self, command: bytes::Bytes) -> Result<Answer, KvError> {
        let result = self.node.write(command).await;
        let outcome = match &result {
            Ok(_) => "committed",
            Err(WriteError::Unknown(_)) => "unknown",
            Err(_) => "rejected",
        };
        metrics::counter!("kv_proposals_total", "outcome" => outcome).increment(1);
        let answer = Answer::decode(result?)
            .map_err(|error| WriteError::Unknown(format!("the answer does not decode: {error}")))?;
        match answer.refusal() {
            Refusal::None => Ok(answer),
            Refusal::NoSpace => Err(KvError::NoSpace),
            refusal => Err(KvError::Refused(refusal)),
        }
    }

    /// Raises or clears the quota alarm.
    ///
    /// # Errors
    /// See [`Kv::write`].
    pub async fn set_alarm(&self, no_space: bool) -> Result<Answer, KvError> {
        let action = Some(Action::Alarm(Alarm { no_space }));
        self.propose(Command { action, ..Command::default() }.encode_bytes()).await
    }

    /// Reads the state as fresh as asked for.
    ///
    /// # Errors
    /// When no leader confirms; never for serializable reads.
    pub async fn read<T>(
        &self,
        consistency: Consistency,
        read: impl Fn(&Store) -> T,
    ) -> Result<T, ReadError> {
        let policy = match consistency {
            Consistency::Serializable => return Ok(self.node.machine().read(read)),
            Consistency::Linearizable => ReadPolicy::ReadIndex,
            Consistency::Lease => ReadPolicy::Lease,
        };
        self.node.read_barrier(policy).await?;
        let found = self.node.machine().read(read);
        if policy == ReadPolicy::Lease {
            // The process may have been suspended between the check and the read.
            self.node.read_barrier(policy).await?;
        }
        Ok(found)
    }
}

async fn compact_regularly(kv: Weak<Kv>) {
    let mut ticks = tokio::time::interval(COMPACT_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(kv) = kv.upgrade() else { return };
        let keep = i64::try_from(kv.limits.history_revisions).unwrap_or(i64::MAX);
        let (revision, compacted, bytes) =
            kv.node.machine().read(|store| (store.revision(), store.compacted(), store.bytes()));
        #[expect(clippy::cast_precision_loss, reason = "sizes for people to look at")]
        {
            metrics::gauge!("kv_db_bytes").set(bytes as f64);
            metrics::gauge!("kv_revision").set(revision as f64);
        }
        let upto = revision.saturating_sub(keep);
        if kv.node.leads() && upto > compacted && upto - compacted >= keep {
            let action = Some(Action::Compact(Compact { revision: upto }));
            // What fails now is tried again at the next tick, by whoever leads then.
            let _ = kv.propose(Command { action, ..Command::default() }.encode_bytes()).await;
        }
    }
}
