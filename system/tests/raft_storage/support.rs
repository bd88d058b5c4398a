//! Short names for what the storage tests build and ask.

use std::sync::Arc;

use bytes::Bytes;
use openraft::{
    EntryPayload, LogId, RaftLogReader,
    impls::leader_id_adv::LeaderId,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
    type_config::alias::{EntryOf, LogIdOf, VoteOf},
};
use queuebench_system::raft::{
    disk::{Disk, memory::MemoryDisk},
    log::{LogConfig, LogHandle, LogStore, OpenError},
    types::{Command, Types},
};

pub(crate) type Entry = EntryOf<Types>;
pub(crate) type Id = LogIdOf<Types>;
pub(crate) type Vote = VoteOf<Types>;

pub(crate) fn leader(term: u64) -> LeaderId<u64, u64> {
    LeaderId { term, node_id: 1 }
}

pub(crate) fn id(term: u64, index: u64) -> Id {
    LogId { leader_id: leader(term), index }
}

pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let fill = u8::try_from((term * 31 + index) % 251).unwrap();
    let command = Command(Bytes::from(vec![fill; bytes]));
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(command) }
}

pub(crate) fn vote(term: u64) -> Vote {
    Vote { leader_id: leader(term), committed: false }
}

pub(crate) fn small_log() -> LogConfig {
    LogConfig { segment_bytes: 4096, cache_bytes: 2048, ..LogConfig::new("/wal", 77) }
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<(LogStore, LogHandle), OpenError> {
    LogStore::open(Arc::new(disk.clone()) as Arc<dyn Disk>, small_log())
}

/// Appends and waits for the flush.
pub(crate) async fn append(log: &mut LogStore, entries: Vec<Entry>) -> std::io::Result<()> {
    let (done, durable) = Types::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    durable.await.map_err(std::io::Error::other)?
}

pub(crate) async fn entries(log: &mut LogStore) -> Vec<Entry> {
    log.get_log_reader().await.try_get_log_entries(0..).await.unwrap()
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
