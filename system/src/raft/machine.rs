//! The application's side of replication: what it implements, and how it is driven.
//!
//! A [`Machine`] is state in memory that changes only by applying committed commands in order. Its durability
//! is the log's and the snapshots': a restart loads the newest snapshot and applies the log from there up to
//! the saved commit mark, before anything is served. A snapshot is taken from a cheap frozen view, so
//! commands go on being applied while it is written.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};
use tokio::sync::watch;

use super::{
    snapshot::{SnapshotFile, SnapshotHead, SnapshotReader, SnapshotStore},
    types::{LogId, Payload, Reply, SnapshotMeta, StoredMembership, Types},
};

/// State that is replicated by applying the same commands in the same order everywhere.
///
/// Methods take `&self`: the application shares the machine with its readers and locks inside.
pub trait Machine: Send + Sync + 'static {
    /// A consistent view of the state that stays as it is while the machine goes on.
    type Frozen: Send + Sync + 'static;

    /// Applies a committed command and answers its proposer. Must depend on nothing but the state, the
    /// command and `index`, and must not fail: a command that makes no sense is answered, not applied.
    fn apply(&self, index: u64, command: Bytes) -> Bytes;
    /// Freezes the state; must be quick, commands wait meanwhile.
    fn freeze(&self) -> Self::Frozen;
    /// Writes a frozen state.
    ///
    /// # Errors
    /// Whatever the writer answers.
    fn write(frozen: &Self::Frozen, out: &mut dyn Write) -> io::Result<()>;
    /// Replaces the state by a written one, all or nothing.
    ///
    /// # Errors
    /// When the reader fails or what it gives does not parse.
    fn restore(&self, input: &mut dyn Read) -> io::Result<()>;
}

/// Drives a [`Machine`] for openraft.
pub struct Replica<M: Machine> {
    machine: Arc<M>,
    store: SnapshotStore,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    applied: watch::Sender<u64>,
}

impl<M: Machine> std::fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("last_applied", &self.last_applied).finish_non_exhaustive()
    }
}

impl<M: Machine> Replica<M> {
    /// Loads the newest snapshot, if any, into `machine`. Answers the replica and where it tells the index
    /// that was applied last, plus one.
    ///
    /// # Errors
    /// When the snapshot is damaged or the disk fails.
    pub fn open(machine: Arc<M>, store: SnapshotStore) -> io::Result<(Self, watch::Receiver<u64>)> {
        let (applied, observer) = watch::channel(0);
        let membership = StoredMembership::default();
        let mut replica = Self { machine, store, last_applied: None, membership, applied };
        if let Some((head, file)) = replica.store.newest()? {
            replica.load(&head.meta, &file)?;
        }
        Ok((replica, observer))
    }

    fn load(&mut self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<()> {
        let mut reader = io::BufReader::with_capacity(64 << 10, SnapshotReader::new(file)?);
        self.machine.restore(&mut reader)?;
        // Read to the end, so that the closing mark is checked too.
        io::copy(&mut reader, &mut io::sink())?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.applied.send_replace(self.last_applied.map_or(0, |id| id.index + 1));
        Ok(())
    }
}

impl<M: Machine> RaftStateMachine<Types> for Replica<M> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let began = Instant::now();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.last_applied = Some(entry.log_id);
            let reply = match entry.payload {
                Payload::Blank => Reply::default(),
                Payload::Normal(command) => Reply(self.machine.apply(entry.log_id.index, command.0)),
                Payload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Reply::default()
                }
            };
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        self.applied.send_replace(self.last_applied.map_or(0, |id| id.index + 1));
        metrics::histogram!("raft_apply_seconds").record(began.elapsed());
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let meta = SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        Builder { frozen: Some(self.machine.freeze()), meta, store: self.store.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        // The file is durable under its final name before the state changes, so that a crash in between
        // restarts from it.
        let snapshot = self.store.import(meta, &snapshot)?;
        self.load(meta, &snapshot)?;
        self.store.remove_old()
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotFile>>> {
        let newest = self.store.newest()?;
        Ok(newest.map(|(head, snapshot)| SnapshotOf::<Types, _> { meta: head.meta, snapshot }))
    }
}

/// Writes one snapshot of a frozen state.
pub struct Builder<M: Machine> {
    frozen: Option<M::Frozen>,
    meta: SnapshotMeta,
    store: SnapshotStore,
}

impl<M: Machine> std::fmt::Debug for Builder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotFile>> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("a builder builds one snapshot"))?;
        let (meta, store) = (self.meta.clone(), self.store.clone());
        let began = Instant::now();
        let write = move || {
            let mut out = store.begin(&SnapshotHead { meta })?;
            M::write(&frozen, &mut out)?;
            let file = out.finish()?;
            store.remove_old()?;
            io::Result::Ok(file)
        };
        let snapshot = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        metrics::histogram!("raft_snapshot_seconds").record(began.elapsed());
        #[expect(clippy::cast_precision_loss, reason = "a size for people to look at")]
        metrics::gauge!("raft_snapshot_bytes").set(snapshot.bytes as f64);
        Ok(SnapshotOf::<Types, _> { meta: self.meta.clone(), snapshot })
    }
}
