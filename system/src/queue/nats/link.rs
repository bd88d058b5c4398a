//! One publishing connection: its sessions, its window of messages without an outcome, and the task that
//! reads acknowledgements.
//!
//! A *session* is one TCP connection with an inbox of its own, so an answer can never reach a message of an
//! earlier session. When a session breaks, or an answer stays away for `ack_timeout_ms`, or the stream has
//! no leader, the session is given up as a whole; a new one is opened once the stream answers, and what has
//! no outcome is sent again by id in the order of acceptance, before anything newer. Messages without an id
//! that may have been stored are not sent again: their fate is unknown.
//!
//! Bounds: `max_in_flight` messages; `max_tries` sendings of each within `retry_for_ms`; then it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_nats::PublishErrorKind;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::publisher::Owner;
use super::slots::{Entry, Slots};
use super::{NatsConfig, headers};
use crate::message::Message;
use crate::queue::{Outcome, PublishError, QueueError, RejectReason, Token, UnknownReason};

mod session;
mod supervisor;

use session::Session;
use supervisor::SettleRest;

/// The clock ticks this often within an acknowledgement's time limit.
const TICKS_PER_ACK_TIMEOUT: u32 = 10;

#[derive(Debug)]
pub(super) struct Link {
    config: Arc<NatsConfig>,
    name: String,
    counters: Arc<Counters>,
    slots: Slots,
    state: RwLock<State>,
    /// A coarse clock, so that a publish need not read the real one: ticks since `opened`.
    tick: AtomicU32,
    opened: Instant,
    max_payload: AtomicUsize,
    stop: CancellationToken,
    runtime: Handle,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum State {
    /// Messages are handed to this session at once.
    Up(Arc<Session>),
    /// Messages wait in their slots for the next session.
    Down,
}

impl Link {
    /// Connects, and starts the task that reads acknowledgements on the current runtime.
    pub(super) async fn open(
        config: Arc<NatsConfig>,
        name: String,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, QueueError> {
        let (session, acks) = Session::open(&config, &name, 1).await?;
        let link = Arc::new(Self {
            slots: Slots::new(config.max_in_flight),
            max_payload: AtomicUsize::new(session.client.max_payload()),
            state: RwLock::new(State::Up(Arc::clone(&session))),
            config,
            name,
            counters,
            tick: AtomicU32::new(0),
            opened: Instant::now(),
            stop,
            runtime: Handle::current(),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(supervisor::run(SettleRest(Arc::clone(&link)), session, acks));
        *link.task.lock() = Some(task);
        Ok(link)
    }

    /// Whether the task that reads acknowledgements still runs; it ends with its runtime.
    pub(super) fn is_alive(&self) -> bool {
        self.task.lock().as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Whether this link's connection lives on the current runtime.
    pub(super) fn is_local(&self) -> bool {
        Handle::try_current().is_ok_and(|current| current.id() == self.runtime.id())
    }

    /// A timer that works on any thread.
    pub(super) fn sleep(&self, time: Duration) -> tokio::time::Sleep {
        let _runtime = self.runtime.enter();
        tokio::time::sleep(time)
    }

    pub(super) async fn publish(
        &self,
        message: Message,
        token: Token,
        owner: &Arc<Owner>,
    ) -> Result<(), PublishError> {
        let refuse = |error| {
            self.counters.refused.fetch_add(1, Relaxed);
            Err(error)
        };
        if self.slots.is_closed() {
            return refuse(PublishError::Closed);
        }
        let size = match headers::check(&message) {
            Ok(header_bytes) => header_bytes + message.payload.len(),
            Err(error) => return refuse(error),
        };
        let limit = self.max_payload.load(Relaxed);
        if size > limit {
            return refuse(PublishError::TooLarge { size, limit });
        }
        let Some(slot) = self.slots.reserve().await else { return refuse(PublishError::Closed) };

        let payload = message.payload.clone();
        let header_map = headers::build(&message);
        let tick = self.tick.load(Relaxed);
        let order = self.slots.next_order();
        let mut entry = Entry {
            order,
            token,
            owner: Arc::clone(owner),
            message,
            session: 0,
            tries: 0,
            doubtful: false,
            accepted_tick: tick,
            sent_tick: tick,
        };
        self.counters.accepted.fetch_add(1, Relaxed);
        owner.accept();
        // The entry is filled in under the lock, so that a change of session sees either all of it or none.
        let session = {
            let state = self.state.read();
            let State::Up(session) = &*state else {
                self.slots.put(slot, entry);
                return Ok(());
            };
            entry.session = session.number;
            entry.tries = 1;
            entry.doubtful = true;
            self.slots.put(slot, entry);
            Arc::clone(session)
        };
        let mut handed = Handed { link: self, slot, order, session: session.number, done: false };
        let sent = session.send(slot as usize, payload, header_map).await;
        handed.done = true;
        if sent.is_err() {
            // The session is over; its successor sends the message, which never left.
            self.slots.with(slot as usize, |entry| {
                if entry.order == order && entry.session == session.number {
                    entry.session = 0;
                    entry.doubtful = false;
                }
            });
        }
        Ok(())
    }

    /// Stops intake; what was accepted goes on.
    pub(super) fn close_intake(&self) {
        self.slots.close();
    }

    /// Stops the task, which settles what is left, and waits for its end at most `limit`.
    pub(super) async fn stop(&self, limit: Duration) {
        self.close_intake();
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = tokio::time::timeout(limit, task).await
        {
            tracing::warn!(link = %self.name, %error, "publishing connection did not stop in time");
        }
    }

    /// Reports the fate of what was taken out of `slot`, and frees the slot.
    fn settle(&self, slot: usize, entry: &Entry, outcome: Outcome) {
        self.report(entry, outcome);
        self.free(slot);
    }

    fn report(&self, entry: &Entry, outcome: Outcome) {
        self.counters.settle(outcome);
        entry.owner.complete(entry.token, outcome);
    }

    fn free(&self, slot: usize) {
        self.slots.release(u32::try_from(slot).expect("slots are numbered within u32"));
    }

    fn age(&self, since: u32) -> u32 {
        self.tick.load(Relaxed).wrapping_sub(since)
    }

    /// Sets the coarse clock by the real one, so that a stall of the process counts in full.
    fn read_clock(&self) {
        let ticks = self.opened.elapsed().as_nanos() / self.tick_length().as_nanos();
        self.tick.store(u32::try_from(ticks).unwrap_or(u32::MAX), Relaxed);
    }

    fn tick_length(&self) -> Duration {
        (self.config.ack_timeout() / TICKS_PER_ACK_TIMEOUT).max(Duration::from_millis(1))
    }

    /// How many ticks a message may be sent again for.
    fn retry_ticks(&self) -> u32 {
        let ticks = u128::from(self.config.retry_for_ms) * 1_000_000 / self.tick_length().as_nanos();
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn may_send_again(&self, entry: &Entry) -> bool {
        (entry.has_id() || !entry.doubtful)
            && entry.tries < self.config.max_tries
            && self.age(entry.accepted_tick) < self.retry_ticks()
    }
}

/// What is left to say of a message that will not be sent again.
fn last_word(entry: &Entry, doubt: UnknownReason) -> Outcome {
    match (entry.doubtful, entry.tries) {
        (true, _) => Outcome::Unknown(doubt),
        (false, 0) => Outcome::Rejected(RejectReason::NotSent),
        (false, _) => Outcome::Rejected(RejectReason::Refused),
    }
}

/// Takes a message back whose sender gave up (dropped the future) before the session took it.
struct Handed<'a> {
    link: &'a Link,
    slot: u32,
    order: u64,
    session: u64,
    done: bool,
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let ours = |entry: &Entry| entry.order == self.order && entry.session == self.session;
        if let Some(entry) = self.link.slots.take_if(self.slot as usize, ours) {
            self.link.counters.accepted.fetch_sub(1, Relaxed);
            entry.owner.withdraw();
            self.link.slots.release(self.slot);
        }
    }
}

/// Whether sending failed because of the message, not of the session.
fn is_oversize(kind: PublishErrorKind) -> bool {
    matches!(kind, PublishErrorKind::MaxPayloadExceeded)
}
