//! The sending side: pipelined JetStream publishes over a shared connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Inner;
use super::link::Link;
use crate::message::Message;
use crate::queue::{Completions, Outcome, PublishError, Publisher, Submitted, Token};

/// Sends to a JetStream stream; clones share connection, window and sink.
///
/// Publishing needs no runtime of the caller: the connection lives on the runtime on which
/// [`Queue::publisher`](crate::queue::Queue::publisher) was called, and outcomes are reported from there.
/// The publish waits when `max_in_flight` messages of its connection are without an outcome.
#[derive(Clone, Debug)]
pub struct NatsPublisher {
    link: Arc<Link>,
    owner: Arc<Owner>,
    /// Keeps the connection up while there is a publisher, even if the queue itself is gone.
    _queue: Arc<Inner>,
}

impl NatsPublisher {
    pub(super) fn new(queue: Arc<Inner>, link: Arc<Link>, completions: Arc<dyn Completions>) -> Self {
        let owner = Owner { completions, outstanding: AtomicU64::new(0), idle: Notify::new() };
        Self { link, owner: Arc::new(owner), _queue: queue }
    }
}

impl Publisher for NatsPublisher {
    async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
        self.link.publish(message, token, &self.owner).await?;
        Ok(Submitted::Pending)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut accepted = 0;
        while let Some((message, token)) = batch.front() {
            match self.link.publish(message.clone(), *token, &self.owner).await {
                Ok(()) => batch.pop_front(),
                Err(error) if accepted == 0 => return Err(error),
                Err(_) => break,
            };
            accepted += 1;
        }
        Ok(accepted)
    }

    async fn flush(&self, deadline: Duration) -> usize {
        let sleep = self.link.sleep(deadline);
        tokio::pin!(sleep);
        loop {
            let idle = self.owner.idle.notified();
            let outstanding = self.owner.outstanding.load(Ordering::Acquire);
            if outstanding == 0 {
                return 0;
            }
            tokio::select! {
                () = idle => {}
                () = &mut sleep => return usize::try_from(outstanding).unwrap_or(usize::MAX),
            }
        }
    }
}

/// Whose messages they are: a sink, and how many of its tokens are open.
pub(super) struct Owner {
    completions: Arc<dyn Completions>,
    outstanding: AtomicU64,
    idle: Notify,
}

impl Owner {
    pub(super) fn accept(&self) {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes an acceptance back: the caller gave up before the message was handed over.
    pub(super) fn withdraw(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn complete(&self, token: Token, outcome: Outcome) {
        self.completions.complete(token, outcome);
        self.withdraw();
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}
