//! A store as a subject that is operated on: from a slot of the plan to a request, and from its answer to an
//! outcome and a record.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use super::StoreConfig;
use super::StoreOperation;
use super::answer::{Answer, Failure, Seen, ValueId, encode};
use super::client::{Client, Request};
use super::recorder::{Record, Recorder};
use crate::clock;
use crate::consistency::history::{Kind, Outcome as Recorded};
use crate::envelope;
use crate::operation::{Operate, Operation, Outcome, Worker};
use crate::plan::Plan;

/// Keys on which compare-and-set operations meet.
const HOT_KEYS: u32 = 8;
/// Keys that a range reads at most.
const RANGE_LIMIT: u32 = 10;
/// One write for so many operations of a mixed phase.
const MIXED_EVERY: u64 = 10;
/// Tries at a new leader, after the first.
const RETRIES: u32 = 3;

/// A store under one client.
pub(super) struct Store<C> {
    pub(super) config: StoreConfig,
    pub(super) plan: Arc<Plan>,
    /// By phase.
    pub(super) operations: Vec<StoreOperation>,
    pub(super) client: PhantomData<fn() -> C>,
}

impl<C: Client> Operate for Store<C> {
    type Worker = StoreWorker<C>;

    async fn worker(&self, index: u16, lanes: u32) -> Result<StoreWorker<C>, String> {
        Ok(StoreWorker {
            client: C::connect(&self.config, lanes).await?,
            plan: Arc::clone(&self.plan),
            names: names(&self.config, &self.plan),
            operations: self.operations.clone(),
            recorder: RefCell::default(),
            known: RefCell::default(),
            next_value: Cell::new(u64::from(index + 1) << 40),
        })
    }
}

/// The keys of the trial, by index.
pub(super) fn names(config: &StoreConfig, plan: &Plan) -> Vec<String> {
    let name = |key: &bytes::Bytes| format!("{}/{}", config.prefix, String::from_utf8_lossy(key));
    plan.keys.iter().map(name).collect()
}

/// One worker's side.
pub(super) struct StoreWorker<C> {
    client: C,
    plan: Arc<Plan>,
    names: Vec<String>,
    operations: Vec<StoreOperation>,
    recorder: RefCell<Recorder>,
    /// What hot keys held when they were last seen here.
    known: RefCell<HashMap<u32, Option<Seen>>>,
    next_value: Cell<ValueId>,
}

impl<C: Client> Worker for StoreWorker<C> {
    type Leaves = Recorder;

    async fn operate(&self, operation: Operation) -> Outcome {
        let Operation { phase, slot, lane, .. } = operation;
        let key = self.plan.phases[phase].keys.of_slot(slot);
        let answer = match self.operations[phase] {
            StoreOperation::Put => self.put(operation, key).await,
            StoreOperation::Get => self.get(lane, key, false).await,
            StoreOperation::GetSerializable => self.get(lane, key, true).await,
            StoreOperation::Mixed if slot % MIXED_EVERY == MIXED_EVERY - 1 => self.put(operation, key).await,
            StoreOperation::Mixed => self.get(lane, key, false).await,
            StoreOperation::Cas => self.cas(operation, key % HOT_KEYS).await,
            // Several keys at once are no register: the history leaves them out.
            StoreOperation::Range => {
                let range = Request::Range { limit: RANGE_LIMIT };
                self.client.send(lane, &self.names[key as usize], range).await
            }
        };
        match answer {
            Ok(_) => Outcome::Done,
            Err(Failure::Refused(_) | Failure::Elsewhere) => Outcome::Refused,
            Err(Failure::Unknown(_)) => Outcome::Unknown,
        }
    }

    fn leave(self) -> Recorder {
        self.recorder.into_inner()
    }
}

impl<C: Client> StoreWorker<C> {
    async fn put(&self, operation: Operation, key: u32) -> Result<Answer, Failure> {
        let id = self.fresh();
        let value = self.value(operation, id);
        let record = Record { argument: Some(id), ..blank(Kind::Put, operation.lane, key) };
        self.recorded(record, Request::Put { value }).await
    }

    async fn get(&self, lane: u32, key: u32, serializable: bool) -> Result<Answer, Failure> {
        let kind = if serializable { Kind::GetStale } else { Kind::Get };
        self.recorded(blank(kind, lane, key), Request::Get { serializable }).await
    }

    /// Sets a hot key if it still holds what was last seen of it. A conflict is an answer like another; what
    /// is there instead is read by whoever comes next.
    async fn cas(&self, operation: Operation, key: u32) -> Result<Answer, Failure> {
        let lane = operation.lane;
        let known = self.known.borrow().get(&key).copied();
        let expected = match known {
            Some(seen) => seen,
            None => match self.get(lane, key, false).await? {
                Answer::Read(seen) => seen,
                _ => None,
            },
        };
        let id = self.fresh();
        let value = self.value(operation, id);
        let record = Record {
            argument: Some(id),
            expected: expected.map(|seen| seen.value),
            ..blank(Kind::Cas, lane, key)
        };
        let revision = expected.map_or(0, |seen| seen.revision);
        let answer = self.recorded(record, Request::Cas { expected: revision, value }).await;
        let mut known = self.known.borrow_mut();
        match &answer {
            Ok(Answer::Written(revision)) => {
                known.insert(key, Some(Seen { value: id, revision: *revision }));
            }
            _ => {
                known.remove(&key);
            }
        }
        answer
    }

    /// Sends a request, again where another member leads, and keeps what came of it.
    async fn recorded(&self, mut record: Record, request: Request) -> Result<Answer, Failure> {
        record.start = clock::now();
        let name = &self.names[record.key as usize];
        let mut answer = self.client.send(record.lane, name, request.clone()).await;
        for _ in 0..RETRIES {
            if answer != Err(Failure::Elsewhere) {
                break;
            }
            answer = self.client.send(record.lane, name, request.clone()).await;
        }
        record.end = clock::now();
        record.settle(&answer);
        self.recorder.borrow_mut().keep(record);
        answer
    }

    fn fresh(&self) -> ValueId {
        let id = self.next_value.get();
        self.next_value.set(id + 1);
        id
    }

    fn value(&self, operation: Operation, id: ValueId) -> bytes::Bytes {
        let body = self.plan.phases[operation.phase].bodies.of_slot(operation.slot);
        encode(id, envelope::LEN, body)
    }
}

pub(super) fn blank(kind: Kind, lane: u32, key: u32) -> Record {
    Record {
        lane,
        key,
        kind,
        outcome: Recorded::Unknown,
        argument: None,
        expected: None,
        seen: None,
        revision: None,
        start: 0,
        end: 0,
    }
}
