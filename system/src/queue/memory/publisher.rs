//! The sending side of the in-process queue.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::FullPolicy;
use super::shared::Shared;
use super::state::Offered;
use crate::message::Message;
use crate::queue::{Completions, Outcome, PublishError, Publisher, Submitted, Token};

/// Messages handed over per turn of the lock; bounds how long the lock is held and the tokens kept aside.
const TURN: usize = 64;

/// Sends into a [`Memory`](super::Memory) queue. A message is acknowledged when it is in the queue.
pub struct MemoryPublisher<T> {
    shared: Arc<Shared<T>>,
    completions: Option<Arc<dyn Completions>>,
}

impl<T> Clone for MemoryPublisher<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), completions: self.completions.clone() }
    }
}

impl<T> fmt::Debug for MemoryPublisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher").field("config", self.shared.config()).finish_non_exhaustive()
    }
}

impl<T: Clone> MemoryPublisher<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, completions: Option<Arc<dyn Completions>>) -> Self {
        Self { shared, completions }
    }

    /// Puts `item` in the queue; waits for room if that is the policy. Dropping the future before it is
    /// ready sends nothing.
    pub fn send(&self, item: T) -> Publish<'_, T> {
        Publish { shared: &self.shared, item: Some(item), ticket: None }
    }

    /// One try, without a place in the line. Pending: there is no room, and the policy is to wait.
    #[inline]
    pub(super) fn try_send(&self, item: &mut Option<T>) -> Poll<Result<(), PublishError>> {
        let full = self.shared.config().full;
        self.shared.step(|state, counters, wakes| match state.offer(item, counters, wakes) {
            Offered::Taken => Poll::Ready(Ok(())),
            Offered::Full if full == FullPolicy::Wait => Poll::Pending,
            refused => {
                counters.refused.add(1);
                Poll::Ready(Err(refused.into_error()))
            }
        })
    }

    /// Waits until at least one message of `batch` was taken, or fails; `taken` hears of each token.
    async fn send_batch(
        &self,
        batch: &mut VecDeque<(T, Token)>,
        mut taken: impl FnMut(Token),
    ) -> Result<usize, PublishError> {
        let mut room = Ticket { shared: &self.shared, ticket: None };
        let mut count = 0;
        while !batch.is_empty() {
            let mut tokens = [Token(0); TURN];
            let (turn, end) =
                poll_fn(|context| self.turn(batch, &mut tokens, &mut room.ticket, count == 0, context)).await;
            tokens[..turn].iter().for_each(|token| taken(*token));
            count += turn;
            match end {
                None => {}
                Some(error) if count == 0 => return Err(error),
                Some(_) => break,
            }
        }
        Ok(count)
    }

    /// Hands over at most [`TURN`] messages. Waits for room only when `may_wait` and none was taken.
    fn turn(
        &self,
        batch: &mut VecDeque<(T, Token)>,
        tokens: &mut [Token; TURN],
        ticket: &mut Option<u64>,
        may_wait: bool,
        context: &Context<'_>,
    ) -> Poll<(usize, Option<PublishError>)> {
        self.shared.step(|state, counters, wakes| {
            for (turn, told) in tokens.iter_mut().enumerate() {
                let Some((item, token)) = batch.pop_front() else { return Poll::Ready((turn, None)) };
                let mut slot = Some(item);
                let offered = state.offer(&mut slot, counters, wakes);
                if let Some(item) = slot {
                    batch.push_front((item, token));
                }
                match offered {
                    Offered::Taken => *told = token,
                    Offered::Full
                        if turn == 0 && may_wait && self.shared.config().full == FullPolicy::Wait =>
                    {
                        state.wait_for_room(ticket, context.waker(), wakes);
                        return Poll::Pending;
                    }
                    refused => {
                        if turn == 0 && may_wait {
                            counters.refused.add(1);
                        }
                        return Poll::Ready((turn, Some(refused.into_error())));
                    }
                }
            }
            Poll::Ready((TURN, None))
        })
    }
}

impl Offered {
    fn into_error(self) -> PublishError {
        match self {
            Self::Closed => PublishError::Closed,
            Self::Full | Self::Taken => PublishError::Full,
        }
    }
}

/// A place in the line for room; given up when dropped.
struct Ticket<'a, T: Clone> {
    shared: &'a Shared<T>,
    ticket: Option<u64>,
}

impl<T: Clone> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.step(|state, _, wakes| state.leave(ticket, wakes));
        }
    }
}

/// One item on its way into the queue.
#[must_use = "nothing is sent until this is awaited"]
pub struct Publish<'a, T: Clone> {
    shared: &'a Shared<T>,
    item: Option<T>,
    ticket: Option<u64>,
}

impl<T: Clone> fmt::Debug for Publish<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("waiting", &self.ticket).finish_non_exhaustive()
    }
}

/// The item is moved out, never pinned.
impl<T: Clone> Unpin for Publish<'_, T> {}

impl<T: Clone> Future for Publish<'_, T> {
    type Output = Result<(), PublishError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, item, ticket } = &mut *self;
        shared.step(|state, counters, wakes| match state.offer(item, counters, wakes) {
            Offered::Taken => Poll::Ready(Ok(())),
            Offered::Full if shared.config().full == FullPolicy::Wait => {
                state.wait_for_room(ticket, context.waker(), wakes);
                Poll::Pending
            }
            refused => {
                counters.refused.add(1);
                Poll::Ready(Err(refused.into_error()))
            }
        })
    }
}

impl<T: Clone> Drop for Publish<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            drop(Ticket { shared: self.shared, ticket: self.ticket.take() });
        }
    }
}

impl MemoryPublisher<Message> {
    /// The error for a message over the payload limit.
    #[inline]
    fn check(&self, message: &Message) -> Result<(), PublishError> {
        let size = message.payload.len();
        match self.shared.config().max_payload_bytes {
            Some(limit) if size > limit => {
                self.shared.step(|_, counters, _| counters.refused.add(1));
                Err(PublishError::TooLarge { size, limit })
            }
            _ => Ok(()),
        }
    }
}

impl Publisher for MemoryPublisher<Message> {
    #[inline]
    async fn publish(&self, message: Message, _: Token) -> Result<Submitted, PublishError> {
        self.check(&message)?;
        self.send(message).await.map(|()| Submitted::Acknowledged)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let limit = self.shared.config().max_payload_bytes;
        let fits = limit.map_or(batch.len(), |limit| {
            batch.iter().take_while(|(message, _)| message.payload.len() <= limit).count()
        });
        if let Some((first, _)) = batch.front().filter(|_| fits == 0) {
            self.check(first)?;
        }
        let mut rest = Rest { tail: batch.split_off(fits), batch };
        let Rest { batch, .. } = &mut rest;
        self.send_batch(batch, |token| {
            if let Some(completions) = &self.completions {
                completions.complete(token, Outcome::Acknowledged);
            }
        })
        .await
    }

    async fn flush(&self, _: Duration) -> usize {
        // A message has its outcome when `publish` returns.
        0
    }
}

/// Puts the part of a batch that starts with an oversized message back behind the other, also when the
/// call is dropped.
struct Rest<'a> {
    batch: &'a mut VecDeque<(Message, Token)>,
    tail: VecDeque<(Message, Token)>,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.batch.append(&mut self.tail);
    }
}
