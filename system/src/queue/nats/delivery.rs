//! One delivered message, and the answers to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};
use std::time::Duration;

use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::sync::Notify;

use super::BACKEND;
use super::connect::chain;
use super::counters::Counters;
use crate::message::Message;
use crate::queue::{AckError, Delivery};

const ACK: Bytes = Bytes::from_static(b"+ACK");
const NAK: Bytes = Bytes::from_static(b"-NAK");

/// What the deliveries of one subscriber share.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) client: Client,
    pub(super) counters: Arc<Counters>,
    /// Handed out and not yet answered.
    pub(super) held: AtomicUsize,
    /// Told at every answer, so that intake can go on and closing can end.
    pub(super) answered: Notify,
    /// Whether an acknowledgement waits for the server's confirmation.
    pub(super) confirm: bool,
    /// Whether the server waits for acknowledgements.
    pub(super) server_wants_acks: bool,
    pub(super) history: Arc<History>,
    /// The highest stream sequence handed out here.
    pub(super) highest: AtomicU64,
}

/// How far a group has come, so that the server's delivery counts can be trusted or not.
///
/// A server that is killed forgets deliveries that it had counted in memory only: it delivers such messages
/// again and calls it the first time. The first time a consumer delivers a stream's messages in order, so a
/// message that is not beyond all that its subscriber had, or beyond all that the group had before a
/// reconnect, was delivered before, whatever the server says.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The highest sequence handed out in the group.
    highest: AtomicU64,
    /// What `highest` was at the last reconnect.
    doubtful_to: AtomicU64,
}

impl History {
    /// From here on the server may have forgotten what it delivered so far.
    pub(super) fn reconnected(&self) {
        self.doubtful_to.fetch_max(self.highest.load(Relaxed), Relaxed);
    }

    /// `own` is the highest sequence that the message's subscriber handed out.
    fn attempt(&self, own: &AtomicU64, place: Place) -> Option<u32> {
        if place.delivered > 1 {
            return Some(place.delivered);
        }
        let before = own.fetch_max(place.sequence, Relaxed).max(self.doubtful_to.load(Relaxed));
        self.highest.fetch_max(place.sequence, Relaxed);
        (place.sequence > before).then_some(1)
    }
}

/// A message in a consumer's hands. Dropped without an answer, it comes again after the ack wait.
#[derive(Debug)]
pub struct NatsDelivery {
    message: Message,
    /// Where the answer goes; `None` if the server wants none.
    reply: Option<Subject>,
    attempt: Option<u32>,
    hand: Arc<Hand>,
    open: bool,
}

impl NatsDelivery {
    pub(super) fn new(message: Message, reply: Option<Subject>, hand: &Arc<Hand>) -> Self {
        hand.held.fetch_add(1, Ordering::AcqRel);
        hand.counters.delivered.fetch_add(1, Relaxed);
        let place = reply.as_deref().and_then(Place::read);
        let reply = reply.filter(|_| hand.server_wants_acks);
        let attempt = place.and_then(|place| hand.history.attempt(&hand.highest, place));
        if place.is_some() && attempt != Some(1) {
            hand.counters.redelivered.fetch_add(1, Relaxed);
        }
        Self { message, reply, attempt, hand: Arc::clone(hand), open: true }
    }

    /// Counts it as processed at once, and says so to a server that wants to know.
    pub(super) async fn acknowledge_receipt(&mut self) {
        if self.reply.is_some()
            && let Err(error) = self.answer(ACK).await
        {
            tracing::debug!(%error, "acknowledgement on receipt");
        }
        self.settle(true);
    }

    fn settle(&mut self, acked: bool) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let counters = &self.hand.counters;
        if acked { &counters.acked } else { &counters.nacked }.fetch_add(1, Relaxed);
        self.hand.held.fetch_sub(1, Ordering::AcqRel);
        self.hand.answered.notify_waiters();
    }

    async fn answer(&self, payload: Bytes) -> Result<(), AckError> {
        let Some(reply) = &self.reply else { return Ok(()) };
        let sent = if self.hand.confirm {
            self.hand.client.request(reply.clone(), payload).await.map(|_| ()).map_err(|e| chain(&e))
        } else {
            self.hand.client.publish(reply.clone(), payload).await.map_err(|e| chain(&e))
        };
        sent.map_err(|reason| AckError { backend: BACKEND, reason })
    }
}

impl Delivery for NatsDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.message)
    }

    fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    /// Also where the server has forgotten what it delivered.
    fn redelivered(&self) -> bool {
        self.attempt != Some(1)
    }

    async fn ack(mut self) -> Result<(), AckError> {
        if !self.open {
            return Ok(());
        }
        self.answer(ACK).await?;
        self.settle(true);
        Ok(())
    }

    async fn nack(mut self, delay: Duration) -> Result<(), AckError> {
        if !self.open {
            return Err(AckError { backend: BACKEND, reason: "it was acknowledged on receipt".to_owned() });
        }
        let payload = if delay.is_zero() { NAK } else { nak_after(delay) };
        self.answer(payload).await?;
        self.settle(false);
        Ok(())
    }
}

impl Drop for NatsDelivery {
    fn drop(&mut self) {
        self.settle(false);
    }
}

fn nak_after(delay: Duration) -> Bytes {
    Bytes::from(format!("-NAK {{\"delay\":{}}}", delay.as_nanos()))
}

/// Gives messages back that were never handed out.
pub(super) async fn give_back(client: &Client, replies: Vec<Subject>) {
    for reply in replies {
        if client.publish(reply, NAK).await.is_err() {
            return;
        }
    }
}

/// What an acknowledgement subject tells of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// How often the server says it has delivered the message.
    delivered: u32,
    /// The message's place in the stream.
    sequence: u64,
}

impl Place {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.…` (9 words), or the form with domain and
    /// account hash before the stream (11 words or more).
    fn read(reply: &str) -> Option<Self> {
        let skip = match reply.split('.').count() {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        let mut words = reply.split('.').skip(skip);
        Some(Self { delivered: words.next()?.parse().ok()?, sequence: words.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let place = |delivered, sequence| Some(Place { delivered, sequence });
        assert_eq!(Place::read("$JS.ACK.S.C.3.17.18.1690000000000000000.5"), place(3, 17));
        assert_eq!(Place::read("$JS.ACK._.hash.S.C.2.17.18.1690000000000000000.5"), place(2, 17));
        assert_eq!(Place::read("$JS.ACK.hub.hash.S.C.4.19.18.1690000000000000000.5.token"), place(4, 19));
        assert_eq!(Place::read("_INBOX.x.y"), None);
    }

    #[test]
    fn what_a_killed_server_calls_the_first_time_is_not_believed() {
        let (history, mine, other) = (History::default(), AtomicU64::new(0), AtomicU64::new(0));
        let first = |own, sequence| history.attempt(own, Place { delivered: 1, sequence });
        // Two subscribers hand out what they share in no particular order between them.
        assert_eq!([first(&mine, 1), first(&other, 4), first(&mine, 3)], [Some(1); 3]);
        assert_eq!([first(&mine, 2), first(&mine, 3), first(&mine, 5)], [None, None, Some(1)]);
        history.reconnected();
        assert_eq!([first(&other, 5), first(&other, 6)], [None, Some(1)]);
        assert_eq!(history.attempt(&mine, Place { delivered: 2, sequence: 3 }), Some(2));
    }

    #[test]
    fn a_delay_is_said_in_nanoseconds() {
        assert_eq!(nak_after(Duration::from_millis(1500)), "-NAK {\"delay\":1500000000}");
    }
}
