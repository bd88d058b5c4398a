//! Puts messages into the queue and reports each one's fate to whoever waits for it.
//!
//! Messages that arrive together are published together; each has its own answer. A message without an outcome
//! in time is answered as failed, though it may still be taken. Bound: [`MAX_WAITING`] messages without an
//! outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::message::Message;
use crate::pipeline::stream::pending::Pending;
use crate::queue::{
    Completions, Outcome, PublishError, Publisher, Queue, QueueError, RejectReason, Submitted, Token,
};

/// Messages without an outcome.
const MAX_WAITING: usize = 65_536;

/// Why a message is not in the queue, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnqueueError {
    #[error("queue is full")]
    Full,
    #[error("{0}")]
    Failed(String),
}

impl From<PublishError> for EnqueueError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full => Self::Full,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Takes one message's fate.
pub(super) type Reply = Box<dyn FnOnce(Result<(), EnqueueError>) + Send>;

/// Messages that wait for their outcome, by token.
struct Waiting(Mutex<Pending<Reply>>);

impl Waiting {
    fn settle(&self, token: Token, fate: Result<(), EnqueueError>) {
        let reply = self.0.lock().take(token.0);
        if let Some(reply) = reply {
            reply(fate);
        }
    }
}

impl Completions for Waiting {
    fn complete(&self, token: Token, outcome: Outcome) {
        let fate = match outcome {
            Outcome::Acknowledged => Ok(()),
            Outcome::Rejected(RejectReason::Full) => Err(EnqueueError::Full),
            Outcome::Rejected(reason) => Err(EnqueueError::Failed(reason.to_string())),
            Outcome::Unknown(reason) => Err(EnqueueError::Failed(reason.to_string())),
        };
        self.settle(token, fate);
    }
}

/// The way into the queue.
pub(super) struct Intake<P> {
    publisher: P,
    waiting: Arc<Waiting>,
    timeout: Duration,
}

impl<P: Publisher> Intake<P> {
    pub(super) async fn open<Q: Queue<Publisher = P>>(
        queue: &Q,
        timeout: Duration,
    ) -> Result<Self, QueueError> {
        let waiting = Arc::new(Waiting(Mutex::new(Pending::new(MAX_WAITING))));
        let publisher = queue.publisher(Arc::clone(&waiting) as Arc<dyn Completions>).await?;
        Ok(Self { publisher, waiting, timeout })
    }

    /// One message.
    pub(super) async fn enqueue(&self, message: Message) -> Result<(), EnqueueError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let reply: Reply = Box::new(move |fate| {
            // A caller that went away needs no answer.
            let _ = sender.send(fate);
        });
        let Some(token) = self.register(reply) else { return receiver.await.unwrap_or_else(|_| Err(busy())) };
        match tokio::time::timeout(self.timeout, self.publisher.publish(message, token)).await {
            Ok(Ok(Submitted::Acknowledged)) => self.waiting.settle(token, Ok(())),
            Ok(Ok(Submitted::Pending)) => {}
            Ok(Err(error)) => self.waiting.settle(token, Err(error.into())),
            Err(_) => self.waiting.settle(token, Err(late())),
        }
        receiver.await.unwrap_or_else(|_| Err(late()))
    }

    /// Many messages, in order; waits until the client has taken or refused all of them.
    pub(super) async fn enqueue_all(&self, messages: impl Iterator<Item = (Message, Reply)>) {
        let mut batch: VecDeque<(Message, Token)> =
            messages.filter_map(|(message, reply)| Some((message, self.register(reply)?))).collect();
        let publishing = async {
            while !batch.is_empty() {
                if let Err(error) = self.publisher.publish_batch(&mut batch).await
                    && let Some((_, token)) = batch.pop_front()
                {
                    self.waiting.settle(token, Err(error.into()));
                }
            }
        };
        if tokio::time::timeout(self.timeout, publishing).await.is_err() {
            for (_, token) in batch {
                self.waiting.settle(token, Err(late()));
            }
        }
    }

    /// Answers what got no outcome in time; to be called now and then.
    pub(super) fn expire(&self) {
        let expired = self.waiting.0.lock().expire(Instant::now());
        for reply in expired {
            reply(Err(late()));
        }
    }

    fn register(&self, reply: Reply) -> Option<Token> {
        let inserted = self.waiting.0.lock().insert(Instant::now() + self.timeout, reply);
        match inserted {
            Ok(number) => Some(Token(number)),
            Err(reply) => {
                reply(Err(busy()));
                None
            }
        }
    }
}

fn late() -> EnqueueError {
    EnqueueError::Failed("the queue did not answer in time".to_owned())
}

/// More messages wait for the broker than may: the client should come back later.
fn busy() -> EnqueueError {
    EnqueueError::Full
}
