//! The log is cut at every single operation of its disk, and what is found afterwards is judged.

use std::{collections::VecDeque, path::Path};

use openraft::{
    RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use proptest::prelude::*;
use queuebench_system::raft::{
    disk::memory::{Fault, MemoryDisk},
    log::OpenError,
    types::Types,
};

use crate::support::{Entry, Id, Vote, append, block_on, entries, entry, id, open, vote};

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, bytes: usize, wait: bool },
    Vote,
    Commit,
    Truncate { back: u64 },
    Purge { forward: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..6, 0usize..400, any::<bool>()).prop_map(|(count, bytes, wait)| Step::Append { count, bytes, wait }),
        2 => Just(Step::Vote),
        2 => Just(Step::Commit),
        1 => (1u64..4).prop_map(|back| Step::Truncate { back }),
        2 => (1u64..8).prop_map(|forward| Step::Purge { forward }),
    ]
}

/// What the log holds after some prefix of its records.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    committed: Option<Id>,
    purged: Option<Id>,
    entries: VecDeque<Entry>,
}

impl Model {
    fn last(&self) -> Option<Id> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }
}

/// Every state the log went through, record by record, and the oldest that may still be found.
#[derive(Debug)]
struct Trail {
    states: Vec<Model>,
    durable: usize,
}

impl Trail {
    fn new(start: Model) -> Self {
        Self { states: vec![start], durable: 0 }
    }

    fn now(&self) -> Model {
        self.states.last().unwrap().clone()
    }

    fn reached(&mut self, state: Model) {
        self.states.push(state);
    }

    fn all_durable(&mut self) {
        self.durable = self.states.len() - 1;
    }
}

async fn run(disk: &MemoryDisk, steps: &[Step], trail: &mut Trail) -> std::io::Result<()> {
    let (mut log, handle) = open(disk).map_err(std::io::Error::other)?;
    let mut term = 1;
    let mut outcome = Ok(());
    for step in steps {
        outcome = one(&mut log, step, &mut term, trail).await;
        if outcome.is_err() {
            break;
        }
    }
    handle.close();
    outcome
}

async fn one(
    log: &mut queuebench_system::raft::log::LogStore,
    step: &Step,
    term: &mut u64,
    trail: &mut Trail,
) -> std::io::Result<()> {
    let mut state = trail.now();
    match step {
        Step::Append { count, bytes, wait } => {
            let next = state.last().map_or(0, |last| last.index + 1);
            let new: Vec<Entry> = (next..next + count).map(|index| entry(*term, index, *bytes)).collect();
            for entry in &new {
                state.entries.push_back(entry.clone());
                trail.reached(state.clone());
            }
            if *wait {
                append(log, new).await?;
                trail.all_durable();
            } else {
                log.append(new, IOFlushed::noop()).await?;
            }
        }
        Step::Vote => {
            *term += 1;
            state.vote = Some(vote(*term));
            trail.reached(state);
            log.save_vote(&vote(*term)).await?;
            trail.all_durable();
        }
        Step::Commit => {
            state.committed = state.last();
            trail.reached(state.clone());
            log.save_committed(state.committed).await?;
        }
        Step::Truncate { back } => {
            for _ in 0..*back {
                state.entries.pop_back();
            }
            trail.reached(state.clone());
            *term += 1;
            log.truncate_after(state.last()).await?;
        }
        Step::Purge { forward } => {
            let upto = state.entries.iter().take(usize::try_from(*forward).unwrap()).last().map(|e| e.log_id);
            if let Some(upto) = upto {
                state.entries.retain(|entry| entry.log_id.index > upto.index);
                state.purged = Some(upto);
                trail.reached(state);
                log.purge(upto).await?;
            }
        }
    }
    Ok(())
}

async fn found(disk: &MemoryDisk) -> Model {
    let (mut log, handle) = open(disk).expect("the log opens after power loss");
    let vote = log.get_log_reader().await.read_vote().await.unwrap();
    let committed = log.read_committed().await.unwrap();
    let purged = log.get_log_state().await.unwrap().last_purged_log_id;
    let entries = entries(&mut log).await.into();
    handle.close();
    Model { vote, committed, purged, entries }
}

fn judge(steps: &[Step], seed: u64) {
    let disk = MemoryDisk::new();
    block_on(run(&disk, steps, &mut Trail::new(Model::default()))).expect("no fault, no error");
    let total = disk.operations();
    let mut random = seed;
    for cut in 1..=total {
        let disk = MemoryDisk::new();
        disk.fail_at(cut, Fault::PowerLoss);
        let mut trail = Trail::new(Model::default());
        let _ = block_on(run(&disk, steps, &mut trail));
        let disk = disk.after_power_loss(|below| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        });
        let after = block_on(found(&disk));
        assert!(
            trail.states[trail.durable..].contains(&after),
            "cut at {cut} of {total}: found {after:?}, which is no state since the last acknowledged one, {:?}",
            trail.states[trail.durable]
        );
        // It goes on from there, and nothing of the torn tail comes back.
        let mut trail = Trail::new(after);
        let more = [Step::Append { count: 3, bytes: 40, wait: true }, Step::Vote];
        block_on(run(&disk, &more, &mut trail)).expect("the repaired log takes more");
        assert_eq!(block_on(found(&disk)), trail.now());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whenever the power goes, a restart finds exactly the state after some prefix of the records, and no
    /// shorter one than was acknowledged.
    #[test]
    fn nothing_acknowledged_is_lost_at_any_cut(steps in proptest::collection::vec(step(), 1..24), seed: u64) {
        judge(&steps, seed);
    }
}

#[test]
fn damage_in_the_middle_is_refused_with_file_and_offset() {
    let disk = MemoryDisk::new();
    block_on(async {
        let (mut log, handle) = open(&disk).unwrap();
        for index in 0..5 {
            append(&mut log, vec![entry(1, index, 100)]).await.unwrap();
        }
        handle.close();
    });
    let path = Path::new("/wal/0000000000000001.log");
    // The second record: the header block, then one record of 25 + 24 + 1 + 100 bytes.
    disk.corrupt(path, 256 + 150 + 60, 0xee);
    match open(&disk) {
        Err(OpenError::Damaged { path: file, offset, .. }) => {
            assert_eq!(file, path);
            assert_eq!(offset, 256 + 150);
        }
        other => panic!("opened a damaged log: {other:?}"),
    }
}

#[test]
fn the_last_record_torn_is_repaired() {
    let disk = MemoryDisk::new();
    block_on(async {
        let (mut log, handle) = open(&disk).unwrap();
        for index in 0..3 {
            append(&mut log, vec![entry(1, index, 100)]).await.unwrap();
        }
        handle.close();
    });
    disk.corrupt(Path::new("/wal/0000000000000001.log"), 256 + 2 * 150 + 60, 0xee);
    let after = block_on(found(&disk));
    assert_eq!(after.entries.iter().map(|e| e.log_id.index).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_failed_flush_stops_the_log_for_good() {
    for fault in [Fault::InputOutput, Fault::NoSpace] {
        let disk = MemoryDisk::new();
        block_on(async {
            let (mut log, handle) = open(&disk).unwrap();
            append(&mut log, vec![entry(1, 0, 10)]).await.unwrap();
            disk.fail_now(fault);
            append(&mut log, vec![entry(1, 1, 10)]).await.unwrap_err();
            disk.resume();
            append(&mut log, vec![entry(1, 2, 10)]).await.unwrap_err();
            log.save_vote(&vote(2)).await.unwrap_err();
            assert!(handle.failure().is_some());
            handle.close();
        });
        let after = block_on(found(&disk.after_power_loss(|_| 0)));
        assert_eq!(after.entries.len(), 1, "{fault:?}");
        assert_eq!(after.entries[0].log_id, id(1, 0));
    }
}

#[test]
fn one_flush_covers_all_that_queued_during_the_one_before() {
    let disk = MemoryDisk::new();
    block_on(async {
        let (mut log, handle) = open(&disk).unwrap();
        append(&mut log, vec![entry(1, 0, 10)]).await.unwrap();
        disk.fail_now(Fault::Stall);
        let mut waiting = Vec::new();
        let before = disk.syncs();
        for index in 1..=100 {
            let (done, durable) = Types::oneshot();
            log.append([entry(1, index, 10)], IOFlushed::signal(done)).await.unwrap();
            waiting.push(durable);
            while index == 1 && handle.flush_age().is_none() {
                tokio::task::yield_now().await;
            }
        }
        assert!(handle.flush_age().is_some());
        disk.resume();
        for durable in waiting {
            durable.await.unwrap().unwrap();
        }
        // The stalled flush, the one for the 99 others, and at most a few for segments begun meanwhile.
        let flushes = disk.syncs() - before;
        assert!(flushes <= 10, "{flushes} flushes for 100 appends");
        handle.close();
    });
}

#[test]
fn the_power_loss_model_loses_what_was_not_synced() {
    use queuebench_system::raft::disk::Disk;
    let disk = MemoryDisk::new();
    let file = disk.create(Path::new("/d/f")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"lost", 4).unwrap();
    let mut bytes = [0; 4];
    let after = disk.after_power_loss(|_| 0);
    let file = after.open(Path::new("/d/f")).unwrap();
    assert_eq!(file.bytes().unwrap(), 4);
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"kept");
}

#[test]
fn a_missing_segment_is_refused() {
    use queuebench_system::raft::disk::Disk;
    let disk = MemoryDisk::new();
    block_on(async {
        let (mut log, handle) = open(&disk).unwrap();
        for index in 0..60 {
            append(&mut log, vec![entry(1, index, 300)]).await.unwrap();
        }
        handle.close();
    });
    let names = disk.list(Path::new("/wal")).unwrap();
    assert!(names.len() > 3);
    for name in [&names[0], &names[1]] {
        let copy = disk.after_power_loss(|_| 0);
        copy.remove(&Path::new("/wal").join(name)).unwrap();
        assert!(matches!(open(&copy), Err(OpenError::Damaged { .. })), "{name} is missing");
    }
}
