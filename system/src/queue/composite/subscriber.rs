//! Receiving from all children, each message once.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counters::Counters;
use super::delivery::{Answering, CompositeDelivery};
use super::merge::{Merge, Sorted};
use super::{ChildDelivery, Inner};
use crate::queue::{Acknowledge, Delivery, Queue, QueueError, SubscribeError, SubscribeOptions, Subscriber};

/// The most messages taken from a child at once, before another subscriber of the group has its turn.
const BATCH: usize = 16;

/// Receives from a [`Composite`](super::Composite). One task per child fetches; a child that fails is
/// subscribed to again until the subscriber is dropped.
pub struct CompositeSubscriber<Q: Queue> {
    /// Not longer than the prefetch: a message is put here only with a permit.
    ready: mpsc::UnboundedReceiver<CompositeDelivery<ChildDelivery<Q>>>,
    counters: Arc<Counters>,
    _stop: DropGuard,
}

impl<Q: Queue> fmt::Debug for CompositeSubscriber<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositeSubscriber").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl<Q: Queue> CompositeSubscriber<Q> {
    /// Subscribes to all children; those that are down are tried again in the background, unless all are.
    pub(super) async fn open(inner: &Arc<Inner<Q>>, options: SubscribeOptions) -> Result<Self, QueueError> {
        let subscribing = inner.children.iter().map(|(_, queue)| {
            tokio::time::timeout(inner.settings.answer_timeout, queue.subscriber(options.clone()))
        });
        let mut subscribers = Vec::new();
        let mut failure = None;
        for result in futures_util::future::join_all(subscribing).await {
            match result {
                Ok(Ok(subscriber)) => subscribers.push(Some(subscriber)),
                // No later try can help.
                Ok(Err(error @ (QueueError::Setting { .. } | QueueError::Clash { .. }))) => {
                    return Err(error);
                }
                Ok(Err(error)) => {
                    failure = failure.or(Some(error));
                    subscribers.push(None);
                }
                Err(_) => subscribers.push(None),
            }
        }
        if subscribers.iter().all(Option::is_none) {
            return Err(
                failure.unwrap_or_else(|| inner.unreachable("no child took the subscription in time"))
            );
        }
        let (pass, ready) = mpsc::unbounded_channel();
        let stop = inner.stop.child_token();
        let permits = Arc::new(Semaphore::new(options.prefetch.min(Semaphore::MAX_PERMITS)));
        let merge = inner.merge(&options.group);
        for (child, subscriber) in subscribers.into_iter().enumerate() {
            let puller = Puller {
                inner: Arc::clone(inner),
                child,
                options: options.clone(),
                merge: Arc::clone(&merge),
                permits: Arc::clone(&permits),
                pass: pass.clone(),
                stop: stop.clone(),
            };
            inner.tasks.spawn(puller.run(subscriber));
        }
        Ok(Self { ready, counters: Arc::clone(&inner.common.counters), _stop: stop.drop_guard() })
    }

    fn hand_out(&self, delivery: &mut CompositeDelivery<ChildDelivery<Q>>) {
        self.counters.delivered.add();
        if delivery.attempt() > Some(1) {
            self.counters.redelivered.add();
        }
        delivery.handed_out();
    }
}

impl<Q: Queue> Subscriber for CompositeSubscriber<Q> {
    type Delivery = CompositeDelivery<ChildDelivery<Q>>;

    async fn recv(&mut self) -> Result<Self::Delivery, SubscribeError> {
        let mut delivery = self.ready.recv().await.ok_or(SubscribeError::Closed)?;
        self.hand_out(&mut delivery);
        Ok(delivery)
    }

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<Self::Delivery>,
    ) -> Result<usize, SubscribeError> {
        if max == 0 {
            return Ok(0);
        }
        let first = into.len();
        if self.ready.recv_many(into, max).await == 0 {
            return Err(SubscribeError::Closed);
        }
        for delivery in &mut into[first..] {
            self.hand_out(delivery);
        }
        Ok(into.len() - first)
    }
}

/// Fetches from one child for one subscriber.
struct Puller<Q: Queue> {
    inner: Arc<Inner<Q>>,
    child: usize,
    options: SubscribeOptions,
    merge: Arc<Merge<ChildDelivery<Q>>>,
    permits: Arc<Semaphore>,
    pass: mpsc::UnboundedSender<CompositeDelivery<ChildDelivery<Q>>>,
    stop: CancellationToken,
}

impl<Q: Queue> Puller<Q> {
    /// Until stopped, or the child is closed.
    async fn run(self, first: Option<Q::Subscriber>) {
        let stop = self.stop.clone();
        // Cancelling drops what was fetched, which gives it back.
        stop.run_until_cancelled(self.pull(first)).await;
    }

    async fn pull(self, first: Option<Q::Subscriber>) {
        let (name, queue) = &self.inner.children[self.child];
        let mut subscriber = first;
        loop {
            let error = match subscriber.take() {
                Some(subscriber) => match self.pull_from(subscriber).await {
                    SubscribeError::Closed => return,
                    error => error.to_string(),
                },
                None => match queue.subscriber(self.options.clone()).await {
                    Ok(again) => {
                        subscriber = Some(again);
                        continue;
                    }
                    Err(QueueError::Closed(_)) => return,
                    Err(error) => error.to_string(),
                },
            };
            tracing::warn!(child = name, error, "child cannot be received from; trying again");
            tokio::time::sleep(self.inner.settings.retry_after).await;
        }
    }

    async fn pull_from(&self, mut subscriber: Q::Subscriber) -> SubscribeError {
        let mut taken = Vec::new();
        loop {
            if let Err(error) = subscriber.recv_batch(BATCH, &mut taken).await {
                return error;
            }
            for delivery in taken.drain(..) {
                self.sort(delivery).await;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn sort(&self, delivery: ChildDelivery<Q>) {
        let id = delivery.message().id.clone();
        if id.is_empty() {
            // Put into the child by somebody else; there is nothing to know a copy by.
            self.take_permit().await;
            let attempt = delivery.attempt().unwrap_or(1);
            let _ = self.pass.send(self.delivery(delivery, attempt));
            return;
        }
        // A copy of a message in hand needs no room, and must not wait for it.
        let sorted = match self.merge.sort(&id, delivery) {
            Sorted::Wanted(delivery) => {
                self.take_permit().await;
                let first = delivery.attempt().unwrap_or(1);
                // What could not be sent, as the subscriber was dropped, must be dropped outside of the
                // merge's lock, which it asks for.
                let mut unsent = None;
                let sorted = self.merge.sort_or_pass(&id, delivery, first, |delivery, attempt| {
                    unsent = self.pass.send(self.delivery(delivery, attempt)).err();
                });
                drop(unsent);
                if !matches!(sorted, Sorted::Passed) {
                    self.permits.add_permits(1);
                }
                sorted
            }
            other => other,
        };
        match sorted {
            Sorted::Passed | Sorted::Wanted(_) => {}
            Sorted::Kept(displaced) => {
                self.inner.common.counters.copies.add();
                drop(displaced);
            }
            Sorted::Late(copy) => {
                self.inner.common.counters.copies.add();
                if let Err(error) = copy.ack().await {
                    tracing::debug!(%error, "a late copy was not acknowledged and will come again");
                }
            }
        }
    }

    async fn take_permit(&self) {
        self.permits.acquire().await.expect("the semaphore of the prefetch is never closed").forget();
    }

    fn delivery(&self, delivery: ChildDelivery<Q>, attempt: u32) -> CompositeDelivery<ChildDelivery<Q>> {
        let answering = Answering {
            merge: Arc::clone(&self.merge),
            permits: Arc::clone(&self.permits),
            counters: Arc::clone(&self.inner.common.counters),
            on_receive: self.options.acknowledge == Acknowledge::OnReceive,
        };
        CompositeDelivery::new(delivery, attempt, answering)
    }
}
