//! One delivered message, and the answers to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, Ordering::Relaxed};
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
}

/// A message in a consumer's hands. Dropped without an answer, it comes again after the ack wait.
#[derive(Debug)]
pub struct NatsDelivery {
    message: Message,
    /// Where the answer goes; `None` if the server wants none.
    reply: Option<Subject>,
    hand: Arc<Hand>,
    open: bool,
}

impl NatsDelivery {
    pub(super) fn new(message: Message, reply: Option<Subject>, hand: &Arc<Hand>) -> Self {
        hand.held.fetch_add(1, Ordering::AcqRel);
        hand.counters.delivered.fetch_add(1, Relaxed);
        let delivery = Self { message, reply, hand: Arc::clone(hand), open: true };
        if delivery.attempt().is_some_and(|attempt| attempt > 1) {
            delivery.hand.counters.redelivered.fetch_add(1, Relaxed);
        }
        delivery
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
        attempt(self.reply.as_ref()?)
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

/// The delivery count in an acknowledgement subject:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.…` (9 words), or with domain and account hash before the stream
/// (11 words or more).
fn attempt(reply: &str) -> Option<u32> {
    let words = reply.split('.').count();
    let place = match words {
        9 => 4,
        11.. => 6,
        _ => return None,
    };
    reply.split('.').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_is_read_from_both_forms_of_the_subject() {
        assert_eq!(attempt("$JS.ACK.S.C.3.17.18.1690000000000000000.5"), Some(3));
        assert_eq!(attempt("$JS.ACK._.hash.S.C.2.17.18.1690000000000000000.5"), Some(2));
        assert_eq!(attempt("$JS.ACK.hub.hash.S.C.4.17.18.1690000000000000000.5.token"), Some(4));
        assert_eq!(attempt("_INBOX.x.y"), None);
    }

    #[test]
    fn a_delay_is_said_in_nanoseconds() {
        assert_eq!(nak_after(Duration::from_millis(1500)), "-NAK {\"delay\":1500000000}");
    }
}
