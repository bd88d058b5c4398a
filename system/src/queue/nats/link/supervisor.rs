//! The task of a link: reads acknowledgements, minds the time limits, replaces broken sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::session::Session;
use super::{Link, State, is_oversize, last_word};
use crate::queue::nats::answer::Answer;
use crate::queue::nats::headers;
use crate::queue::{Outcome, QueueError, RejectReason, UnknownReason};

/// Acknowledgements taken in one go before time limits and the stop signal are looked at again.
const ACKS_IN_ONE_GO: usize = 256;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a session is over.
enum End {
    Stop,
    Broken(UnknownReason),
}

pub(super) async fn run(link: SettleRest, session: Arc<Session>, acks: Subscriber) {
    let link = &link.0;
    let mut ticker = interval(link.tick_length());
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut session, mut acks) = (session, acks);
    loop {
        let mut quarantine = Vec::new();
        let end = serve(link, &session, &mut acks, &mut ticker, &mut quarantine).await;
        *link.state.write() = State::Down;
        match end {
            End::Stop => return,
            End::Broken(doubt) => link.after_break(doubt),
        }
        let number = session.number + 1;
        drop(session);
        // No answer of the old session can arrive any more.
        quarantine.into_iter().for_each(|slot| link.free(slot));
        let Some(next) = reopen(link, &mut ticker, number).await else { return };
        (session, acks) = next;
        link.counters.reconnects.fetch_add(1, Relaxed);
        tracing::info!(link = %link.name, session = number, "publishing again");
    }
}

/// Reads acknowledgements until the session is over.
async fn serve(
    link: &Link,
    session: &Session,
    acks: &mut Subscriber,
    ticker: &mut Interval,
    quarantine: &mut Vec<usize>,
) -> End {
    let (stopped, broken) = (link.stop.cancelled(), session.broken.cancelled());
    tokio::pin!(stopped, broken);
    loop {
        let message = tokio::select! {
            biased;
            () = &mut stopped => return End::Stop,
            () = &mut broken => return End::Broken(UnknownReason::Disconnected),
            _ = ticker.tick() => {
                link.read_clock();
                if link.expire(session.number, quarantine) {
                    return End::Broken(UnknownReason::TimedOut);
                }
                continue;
            }
            message = acks.next() => message,
        };
        let Some(message) = message else { return End::Broken(UnknownReason::Disconnected) };
        let mut available = link.on_answer(session, &message);
        for _ in 1..ACKS_IN_ONE_GO {
            let Some(Some(message)) = acks.next().now_or_never() else { break };
            available &= link.on_answer(session, &message);
        }
        if !available {
            return End::Broken(UnknownReason::Disconnected);
        }
    }
}

/// Opens the next session and sends again what has no outcome; `None` when told to stop.
async fn reopen(link: &Link, ticker: &mut Interval, number: u64) -> Option<(Arc<Session>, Subscriber)> {
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let attempt = async move {
            tokio::time::sleep(wait).await;
            let (session, acks) = Session::open(&link.config, &link.name, number).await?;
            link.max_payload.store(session.client.max_payload(), Relaxed);
            link.replay(&session).await?;
            Ok::<_, QueueError>((session, acks))
        };
        tokio::pin!(attempt);
        let outcome = loop {
            tokio::select! {
                () = link.stop.cancelled() => return None,
                _ = ticker.tick() => {
                    link.read_clock();
                    link.give_up_old();
                }
                outcome = &mut attempt => break outcome,
            }
        };
        match outcome {
            Ok(next) => return Some(next),
            Err(error) => tracing::warn!(link = %link.name, %error, "still not publishing"),
        }
    }
}

impl Link {
    /// Deals with one answer; false when the stream has nobody who stores.
    fn on_answer(&self, session: &Session, message: &Message) -> bool {
        let Some(slot) = session.slot_of(&message.subject) else { return true };
        match Answer::read(&message.payload, message.status) {
            Answer::Stored => self.acknowledged(slot),
            Answer::Duplicate => {
                self.counters.deduplicated.fetch_add(1, Relaxed);
                self.acknowledged(slot);
            }
            Answer::Rejected(reason) => {
                if let Some(entry) = self.slots.take(slot) {
                    // An earlier copy may have been stored before this one was refused.
                    let certain = entry.tries == 1;
                    let outcome = if certain {
                        Outcome::Rejected(reason)
                    } else {
                        Outcome::Unknown(UnknownReason::Disconnected)
                    };
                    self.settle(slot, &entry, outcome);
                }
            }
            Answer::Unavailable => {
                self.slots.with(slot, |entry| entry.doubtful = entry.tries > 1);
                return false;
            }
            Answer::Garbled => {
                tracing::warn!(link = %self.name, bytes = message.payload.len(), "answer not understood");
            }
        }
        true
    }

    fn acknowledged(&self, slot: usize) {
        if let Some(entry) = self.slots.take(slot) {
            self.settle(slot, &entry, Outcome::Acknowledged);
        }
    }

    /// Looks for answers that stay away. True when the session should be given up; messages that cannot be
    /// sent again are settled, and their slots rest in `quarantine`, since a late answer may still come.
    fn expire(&self, session: u64, quarantine: &mut Vec<usize>) -> bool {
        let late = |entry: &super::Entry| {
            entry.session == session && self.age(entry.sent_tick) > super::TICKS_PER_ACK_TIMEOUT
        };
        let mut give_up = false;
        for slot in self.slots.select(late) {
            if self.slots.with(slot, |entry| late(entry) && self.may_send_again(entry)) == Some(true) {
                give_up = true;
            } else if let Some(entry) = self.slots.take_if(slot, late) {
                self.report(&entry, last_word(&entry, UnknownReason::TimedOut));
                quarantine.push(slot);
            }
        }
        give_up || quarantine.len() * 2 > self.slots.capacity()
    }

    /// After the end of a session: what can be sent again waits for the next one, the rest is settled.
    fn after_break(&self, doubt: UnknownReason) {
        for slot in self.slots.select(|entry| entry.session != 0) {
            if self.slots.with(slot, |entry| self.may_send_again(entry)) == Some(true) {
                self.slots.with(slot, |entry| entry.session = 0);
            } else if let Some(entry) = self.slots.take(slot) {
                self.settle(slot, &entry, last_word(&entry, doubt));
            }
        }
    }

    /// During an outage: settles what has waited too long to be sent again.
    fn give_up_old(&self) {
        let old =
            |entry: &super::Entry| entry.session == 0 && self.age(entry.accepted_tick) >= self.retry_ticks();
        for slot in self.slots.select(old) {
            if let Some(entry) = self.slots.take_if(slot, old) {
                self.settle(slot, &entry, last_word(&entry, UnknownReason::Disconnected));
            }
        }
    }

    /// Sends what waits, in order, and only then lets new messages go straight to `session`.
    async fn replay(&self, session: &Arc<Session>) -> Result<(), QueueError> {
        loop {
            let waiting = self.slots.select(|entry| entry.session != session.number);
            if waiting.is_empty() {
                let mut state = self.state.write();
                if self.slots.select(|entry| entry.session != session.number).is_empty() {
                    *state = State::Up(Arc::clone(session));
                    return Ok(());
                }
            }
            for slot in waiting {
                let parts = self.slots.with(slot, |entry| {
                    entry.session = session.number;
                    entry.tries += 1;
                    entry.doubtful = true;
                    entry.sent_tick = self.tick.load(Relaxed);
                    (entry.message.payload.clone(), headers::build(&entry.message))
                });
                let Some((payload, header_map)) = parts else { continue };
                let Err(error) = session.send(slot, payload, header_map).await else { continue };
                if is_oversize(error.kind()) {
                    if let Some(entry) = self.slots.take(slot) {
                        self.settle(slot, &entry, Outcome::Rejected(RejectReason::TooLarge));
                    }
                } else {
                    self.after_break(UnknownReason::Disconnected);
                    return Err(crate::queue::nats::connect::failed("the connection broke again"));
                }
            }
        }
    }
}

/// Settles what is left when the task ends, also when it ends with its runtime or before its first step: no
/// token may stay without an outcome.
pub(super) struct SettleRest(pub(super) Arc<Link>);

impl Drop for SettleRest {
    fn drop(&mut self) {
        let link = &self.0;
        link.slots.close();
        *link.state.write() = State::Down;
        for slot in link.slots.select(|_| true) {
            if let Some(entry) = link.slots.take(slot) {
                link.settle(slot, &entry, last_word(&entry, UnknownReason::TimedOut));
            }
        }
    }
}
