//! The exactly-once mode of a publisher: messages become visible in groups, all of a group or none.
//!
//! A group is committed at a number of messages or an age, whichever comes first, on a thread of its own;
//! while it commits, publishers wait. A message's outcome is known with its group's: acknowledged when the
//! commit was, rejected when it was aborted, unknown when the commit got no answer in time (it is repeated
//! until then: an abort could contradict it). Bounds: one group open at a time, at most the window's
//! messages in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;

use super::config::Transactions;
use super::publisher::{Core, Reports};
use crate::queue::{Outcome, RejectReason, Token, UnknownReason};

/// How long reports of purged messages may take.
const REPORTS: Duration = Duration::from_secs(10);

/// The open group and who commits it.
#[derive(Debug)]
pub(super) struct Transaction {
    settings: Transactions,
    /// Held shared to put a message into the group, exclusively to end it.
    gate: RwLock<()>,
    ending: AtomicBool,
    reopened: Notify,
    sent: AtomicUsize,
    delivered: Mutex<Vec<Token>>,
    state: Mutex<State>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    first: Option<Instant>,
    demand: bool,
    give_up: bool,
    stop: bool,
}

impl Transaction {
    pub(super) fn new(settings: Transactions) -> Self {
        Self {
            settings,
            gate: RwLock::new(()),
            ending: AtomicBool::new(false),
            reopened: Notify::new(),
            sent: AtomicUsize::new(0),
            delivered: Mutex::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
            thread: Mutex::new(None),
        }
    }

    /// Registers the transactional id, fencing an earlier producer of the same name, and opens the first
    /// group. Blocks.
    pub(super) fn init(&self, producer: &ThreadedProducer<Reports>, limit: Duration) -> Result<(), String> {
        let until = Instant::now() + limit;
        loop {
            match producer.init_transactions(until.saturating_duration_since(Instant::now())) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        producer.begin_transaction().map_err(|error| error.to_string())
    }

    /// Starts the thread that commits.
    pub(super) fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<(), String> {
        let (this, core) = (Arc::clone(self), Arc::downgrade(core));
        let thread = std::thread::Builder::new()
            .name("kafka-commit".to_owned())
            .spawn(move || {
                while this.wait() {
                    let Some(core) = core.upgrade() else { return };
                    this.end_group(&core);
                }
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Puts a message into the open group; `None` while a group is being ended.
    pub(super) fn within(
        &self,
        produce: impl FnOnce() -> Result<(), RDKafkaErrorCode>,
    ) -> Option<Result<(), RDKafkaErrorCode>> {
        let _open = self.gate.try_read()?;
        let result = produce();
        if result.is_ok() {
            let sent = self.sent.fetch_add(1, SeqCst) + 1;
            if sent == 1 || sent == self.settings.max_messages {
                let mut state = self.state.lock();
                state.first.get_or_insert_with(Instant::now);
                drop(state);
                self.wake.notify_all();
            }
        }
        Some(result)
    }

    /// A message of the open group has its delivery report; its outcome is the group's.
    pub(super) fn delivered(&self, token: Token, outcome: Outcome) {
        if outcome != Outcome::Acknowledged {
            // librdkafka now refuses to commit, so the group ends as one.
            tracing::debug!(?token, ?outcome, "a message failed within a transaction");
        }
        self.delivered.lock().push(token);
    }

    /// Ends the group soon.
    pub(super) fn demand(&self) {
        self.state.lock().demand = true;
        self.wake.notify_all();
    }

    /// Ends the group by abort: its messages were purged.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock();
        state.give_up = true;
        state.demand = true;
        drop(state);
        self.wake.notify_all();
    }

    /// Whether a group is being ended.
    pub(super) fn is_closed_for_now(&self) -> bool {
        self.ending.load(SeqCst)
    }

    /// Waits until the next group is open.
    pub(super) async fn reopened(&self) {
        let mut reopened = std::pin::pin!(self.reopened.notified());
        reopened.as_mut().enable();
        if self.is_closed_for_now() {
            reopened.await;
        }
    }

    /// Ends the thread after what it is doing, and waits for it. Blocks.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_all();
        let thread = self.thread.lock().take();
        // The thread itself may be the one that drops the last handle.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the committing thread panicked");
        }
    }

    /// Blocks until a group is to be ended; `false` at the end.
    fn wait(&self) -> bool {
        let interval = Duration::from_millis(self.settings.interval_ms.into());
        let mut state = self.state.lock();
        loop {
            let sent = self.sent.load(SeqCst);
            let due = state.first.map(|first| first + interval);
            let now = Instant::now();
            if sent > 0
                && (state.demand || sent >= self.settings.max_messages || due.is_some_and(|due| due <= now))
            {
                return true;
            }
            if state.stop {
                return false;
            }
            state.demand = false;
            match due {
                Some(due) => drop(self.wake.wait_until(&mut state, due)),
                None => self.wake.wait(&mut state),
            }
        }
    }

    fn end_group(&self, core: &Core) {
        self.ending.store(true, SeqCst);
        let gate = self.gate.write();
        let producer = core.producer();
        let aborted_by_us = self.state.lock().give_up;
        let outcome = if aborted_by_us { self.abort(producer) } else { self.commit(producer) };
        self.await_reports(core, outcome);
        for token in std::mem::take(&mut *self.delivered.lock()) {
            core.reports().complete(token, outcome);
        }
        self.sent.store(0, SeqCst);
        let mut state = self.state.lock();
        state.first = None;
        state.demand = false;
        drop(state);
        if let Err(error) = producer.begin_transaction() {
            // From here on librdkafka refuses every message, and publishers say why.
            tracing::error!(%error, "no further transaction can begin");
        }
        // The gate first: who finds it shut must find a group being ended, or it would wait for the next.
        drop(gate);
        self.ending.store(false, SeqCst);
        self.reopened.notify_waiters();
    }

    fn commit(&self, producer: &ThreadedProducer<Reports>) -> Outcome {
        let until = Instant::now() + Duration::from_millis(self.settings.timeout_ms.into());
        loop {
            match producer.commit_transaction(until.saturating_duration_since(Instant::now())) {
                Ok(()) => return Outcome::Acknowledged,
                Err(KafkaError::Transaction(error)) if error.is_fatal() => {
                    tracing::error!(%error, "the transactional producer is lost");
                    return Outcome::Unknown(UnknownReason::Disconnected);
                }
                Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                    tracing::warn!(%error, "a transaction is aborted");
                    return self.abort(producer);
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {
                    tracing::debug!(%error, "a commit is repeated");
                }
                Err(KafkaError::Transaction(error)) => {
                    tracing::error!(%error, "a commit got no answer");
                    return Outcome::Unknown(UnknownReason::TimedOut);
                }
                // Not all messages were delivered, so the commit was not begun.
                Err(error) => {
                    tracing::warn!(%error, "a transaction is aborted");
                    return self.abort(producer);
                }
            }
        }
    }

    fn abort(&self, producer: &ThreadedProducer<Reports>) -> Outcome {
        let until = Instant::now() + Duration::from_millis(self.settings.timeout_ms.into());
        loop {
            match producer.abort_transaction(until.saturating_duration_since(Instant::now())) {
                Ok(()) => return Outcome::Rejected(RejectReason::NotSent),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {}
                Err(error) => {
                    tracing::error!(%error, "an abort got no answer");
                    return Outcome::Unknown(UnknownReason::Disconnected);
                }
            }
        }
    }

    /// Every message of the group gets a report, purged ones too; waits for the last of them.
    fn await_reports(&self, core: &Core, outcome: Outcome) {
        if outcome != Outcome::Acknowledged {
            core.producer().purge(PurgeConfig::default().queue().inflight());
        }
        let until = Instant::now() + REPORTS;
        while self.delivered.lock().len() < self.sent.load(SeqCst) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
