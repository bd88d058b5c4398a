//! openraft's own storage suite, plain and with the log closed and opened again after every change.

use std::{fmt::Debug, io, ops::RangeBounds, sync::Arc};

use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageError,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
};
use queuebench_system::{
    kv::machine::KvMachine,
    raft::{
        disk::{Disk, memory::MemoryDisk},
        log::{LogHandle, LogStore},
        machine::Replica,
        snapshot::SnapshotStore,
        types::Types,
    },
};
use tokio::sync::Mutex;

use crate::support::{Entry, Id, Vote, append, open};

type Machine = Replica<KvMachine>;

fn machine(disk: &MemoryDisk) -> Machine {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let snapshots = SnapshotStore::open(disk, "/snap".into()).unwrap();
    Replica::open(Arc::new(KvMachine::default()), snapshots).unwrap().0
}

struct Plain;

impl StoreBuilder<Types, LogStore, Machine, LogHandle> for Plain {
    async fn build(&self) -> Result<(LogHandle, LogStore, Machine), StorageError<Types>> {
        let disk = MemoryDisk::new();
        let (log, handle) = open(&disk).unwrap();
        Ok((handle, log, machine(&disk)))
    }
}

struct Opened {
    disk: MemoryDisk,
    log: LogStore,
    handle: Option<LogHandle>,
}

/// A log that is closed and opened again after every call that changes it.
#[derive(Clone)]
struct Reopening(Arc<Mutex<Opened>>);

impl Opened {
    fn reopen(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.close();
        }
        let (log, handle) = open(&self.disk).unwrap();
        self.log = log;
        self.handle = Some(handle);
    }
}

impl RaftLogReader<Types> for Reopening {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.0.lock().await.log.get_log_reader().await.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.0.lock().await.log.get_log_reader().await.read_vote().await
    }
}

impl RaftLogStorage<Types> for Reopening {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.0.lock().await.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let mut opened = self.0.lock().await;
        opened.log.save_vote(vote).await?;
        opened.reopen();
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<Id>) -> io::Result<()> {
        let mut opened = self.0.lock().await;
        opened.log.save_committed(committed).await?;
        opened.reopen();
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<Id>> {
        self.0.lock().await.log.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut opened = self.0.lock().await;
        append(&mut opened.log, entries).await?;
        opened.reopen();
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<Id>) -> io::Result<()> {
        let mut opened = self.0.lock().await;
        opened.log.truncate_after(last_log_id).await?;
        opened.reopen();
        Ok(())
    }

    async fn purge(&mut self, log_id: Id) -> io::Result<()> {
        let mut opened = self.0.lock().await;
        opened.log.purge(log_id).await?;
        opened.reopen();
        Ok(())
    }
}

struct WithReopening;

impl StoreBuilder<Types, Reopening, Machine> for WithReopening {
    async fn build(&self) -> Result<((), Reopening, Machine), StorageError<Types>> {
        let disk = MemoryDisk::new();
        let (log, handle) = open(&disk).unwrap();
        let machine = machine(&disk);
        let opened = Opened { disk, log, handle: Some(handle) };
        Ok(((), Reopening(Arc::new(Mutex::new(opened))), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn openraft_finds_no_fault() {
    Suite::<Types, LogStore, Machine, Plain, LogHandle>::test_all(Plain).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn openraft_finds_no_fault_when_the_log_is_reopened_after_every_change() {
    Suite::<Types, Reopening, Machine, WithReopening, ()>::test_all(WithReopening).await.unwrap();
}
