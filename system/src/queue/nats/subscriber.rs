//! The receiving side: a durable pull consumer, shared by the subscribers of a group.
//!
//! Requests for messages are made by hand over one inbox, so that never more than `prefetch` messages are
//! requested, waiting here or in the consumer's hands. A request stands at the server until it is used up,
//! which serves a live tail without a round trip per batch; a lost one is noticed by missing heartbeats or
//! by a new connection, and made again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::chain;
use super::delivery::{Hand, NatsDelivery, give_back};
use super::{BACKEND, NatsConfig, headers, stream};
use crate::queue::{SubscribeError, Subscriber};

/// A request stands this long at the server.
const EXPIRES: Duration = Duration::from_secs(30);
/// While it stands without messages, the server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence of the server that means the request is lost.
const SILENCE: Duration = Duration::from_millis(4_500);
/// How often the subscriber looks after its request.
const CHECK: Duration = Duration::from_millis(250);

/// Receives from a durable pull consumer. Owned by one task; needs a tokio runtime only to be made.
#[derive(Debug)]
pub struct NatsSubscriber {
    pub(super) config: Arc<NatsConfig>,
    pub(super) js: Context,
    pub(super) group: String,
    pub(super) hand: Arc<Hand>,
    pub(super) inbox: async_nats::Subscriber,
    pub(super) inbox_subject: Subject,
    pub(super) next_subject: Subject,
    /// How many messages the server still owes us.
    pub(super) requested: usize,
    pub(super) prefetch: usize,
    /// Whether handing out counts as processed.
    pub(super) on_receipt: bool,
    pub(super) heard: Instant,
    /// Whether a message came since the last check; saves reading the clock for each.
    pub(super) flowing: bool,
    pub(super) check: Interval,
    /// Counts connections made; a change means that the request is gone.
    pub(super) connects: watch::Receiver<u64>,
    pub(super) closed: CancellationToken,
    /// Where the giving back of prefetched messages is waited for.
    pub(super) tasks: TaskTracker,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) finished: bool,
}

pub(super) fn checks() -> Interval {
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    check
}

enum Wake {
    Message(Option<Message>),
    Check,
    Answered,
    Reconnected,
    Closed,
}

impl NatsSubscriber {
    /// Asks for as many messages as there is room for, when all that was asked for has come.
    ///
    /// One request stands at a time, so what the server still owes is one number. A live tail pays a round trip
    /// for each `prefetch` messages.
    async fn request_more(&mut self) -> Result<(), SubscribeError> {
        if self.requested > 0 {
            return Ok(());
        }
        let room = self.prefetch.saturating_sub(self.hand.held.load(Ordering::Acquire));
        if room == 0 {
            return Ok(());
        }
        let request = format!(
            "{{\"batch\":{room},\"expires\":{},\"idle_heartbeat\":{}}}",
            EXPIRES.as_nanos(),
            HEARTBEAT.as_nanos()
        );
        // Counted first: should the caller give up while we wait, rather too few are requested than too many.
        self.requested = room;
        self.heard = Instant::now();
        self.hand
            .client
            .publish_with_reply(self.next_subject.clone(), self.inbox_subject.clone(), Bytes::from(request))
            .await
            .map_err(|error| broken(&chain(&error)))
    }

    /// Sorts a message from the server: one for the consumer is handed out, a status is acted upon.
    async fn accept(&mut self, message: Message) -> Result<Option<NatsDelivery>, SubscribeError> {
        let Some(status) = message.status else {
            self.requested = self.requested.saturating_sub(1);
            self.flowing = true;
            return Ok(Some(self.deliver(message).await));
        };
        self.heard = Instant::now();
        match status {
            StatusCode::IDLE_HEARTBEAT => {}
            StatusCode::NO_RESPONDERS => {
                self.requested = 0;
                self.check_consumer().await?;
            }
            _ => {
                let unused = message
                    .headers
                    .as_ref()
                    .and_then(|headers| headers.get("Nats-Pending-Messages"))
                    .and_then(|value| value.as_str().parse::<usize>().ok());
                self.requested = unused.map_or(0, |unused| self.requested.saturating_sub(unused));
                if !matches!(status, StatusCode::TIMEOUT | StatusCode::NOT_FOUND) {
                    tracing::debug!(group = %self.group, %status, "request for messages ended");
                    self.check_consumer().await?;
                }
            }
        }
        Ok(None)
    }

    async fn deliver(&self, message: Message) -> NatsDelivery {
        let body = headers::read(message.headers.as_ref(), message.payload);
        let mut delivery = NatsDelivery::new(body, message.reply, &self.hand);
        if self.on_receipt {
            delivery.acknowledge_receipt().await;
        }
        delivery
    }

    /// A consumer that is gone will not come back; a server that is not ready will. A server that is just
    /// starting may not know its consumers yet, so it is asked twice.
    async fn check_consumer(&self) -> Result<(), SubscribeError> {
        for pause in [CHECK, CHECK * 2] {
            tokio::time::sleep(pause).await;
            match stream::consumer_info(&self.js, &self.config, &self.group).await {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(()),
                Err(error) => {
                    tracing::debug!(group = %self.group, %error, "consumer cannot be asked for");
                    return Ok(());
                }
            }
        }
        Err(broken(&format!("consumer `{}` was deleted", self.group)))
    }

    /// Waits for whatever comes next, having asked for all there is room for.
    async fn wait(&mut self) -> Result<Wake, SubscribeError> {
        let hand = Arc::clone(&self.hand);
        // Listens before the room is measured, so that no answer slips through between the two.
        let answered = hand.answered.notified();
        self.request_more().await?;
        Ok(tokio::select! {
            biased;
            () = self.closed.cancelled() => Wake::Closed,
            message = self.inbox.next() => Wake::Message(message),
            changed = self.connects.changed() => {
                if changed.is_err() { Wake::Closed } else { Wake::Reconnected }
            }
            () = answered => Wake::Answered,
            _ = self.check.tick() => Wake::Check,
        })
    }

    async fn next(&mut self) -> Result<NatsDelivery, SubscribeError> {
        loop {
            if self.finished || self.closed.is_cancelled() {
                self.finish().await;
                return Err(SubscribeError::Closed);
            }
            let wake = match self.inbox.next().now_or_never() {
                Some(message) => Wake::Message(message),
                None => self.wait().await?,
            };
            match wake {
                Wake::Message(Some(message)) => {
                    if let Some(delivery) = self.accept(message).await? {
                        return Ok(delivery);
                    }
                }
                Wake::Message(None) => return Err(broken("the connection was closed")),
                Wake::Reconnected => {
                    self.requested = 0;
                    self.hand.history.reconnected();
                }
                Wake::Check if std::mem::take(&mut self.flowing) => self.heard = Instant::now(),
                Wake::Check => {
                    if self.requested > 0 && self.heard.elapsed() > SILENCE {
                        tracing::debug!(group = %self.group, "request for messages lost");
                        self.requested = 0;
                    }
                }
                Wake::Answered | Wake::Closed => {}
            }
        }
    }

    /// Stops listening and gives back what waits here, so that another subscriber of the group gets it
    /// before the ack wait is over.
    async fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Err(error) = self.inbox.unsubscribe().await {
            tracing::debug!(group = %self.group, %error, "unsubscribing");
        }
        let waiting = self.waiting();
        give_back(&self.hand.client, waiting).await;
    }

    /// Where to answer the messages that have arrived and were not handed out.
    fn waiting(&mut self) -> Vec<Subject> {
        let mut replies = Vec::new();
        while let Some(Some(message)) = self.inbox.next().now_or_never() {
            let wanted = message.status.is_none() && self.hand.server_wants_acks;
            replies.extend(message.reply.filter(|_| wanted));
        }
        replies
    }
}

impl Drop for NatsSubscriber {
    fn drop(&mut self) {
        let waiting = self.waiting();
        if !waiting.is_empty() {
            let hand = Arc::clone(&self.hand);
            let task = async move { give_back(&hand.client, waiting).await };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }
}

impl Subscriber for NatsSubscriber {
    type Delivery = NatsDelivery;

    async fn recv(&mut self) -> Result<NatsDelivery, SubscribeError> {
        self.next().await
    }

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<NatsDelivery>,
    ) -> Result<usize, SubscribeError> {
        if max == 0 {
            return Ok(0);
        }
        into.push(self.next().await?);
        let mut taken = 1;
        while taken < max {
            let Some(Some(message)) = self.inbox.next().now_or_never() else { break };
            if let Some(delivery) = self.accept(message).await? {
                into.push(delivery);
                taken += 1;
            }
        }
        Ok(taken)
    }
}

fn broken(reason: &str) -> SubscribeError {
    SubscribeError::Client { backend: BACKEND, reason: reason.to_owned() }
}
