//! The receiving side of the in-process queue.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crossbeam_utils::atomic::AtomicCell;
use tokio::time::{Instant, Sleep};

use super::delivery::MemoryDelivery;
use super::group::Parcel;
use super::shared::Shared;
use super::state::{Found, Place};
use crate::message::Message;
use crate::queue::{SubscribeError, SubscribeOptions, Subscriber};

/// What a subscriber and its deliveries share. One per subscriber, so that the count of references is
/// touched by one consumer only.
pub(super) struct Link<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) place: Place,
    /// The box of a delivery that needed no answer, on its way back to the pool with the next receive.
    pub(super) spare: AtomicCell<Option<Parcel<T>>>,
}

impl<T> Link<T> {
    /// What `spare` holds; only deliveries that need no answer leave anything there.
    #[inline]
    fn take_spare(&self) -> Option<Parcel<T>> {
        if self.place.on_receive { self.spare.take() } else { None }
    }
}

/// Receives from a [`Memory`](super::Memory) queue.
pub struct MemorySubscriber<T: Clone> {
    link: Arc<Link<T>>,
    /// Watches the clock while the next message is a delayed one; made when first needed.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T: Clone> fmt::Debug for MemorySubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubscriber").field("place", &self.link.place).finish_non_exhaustive()
    }
}

impl<T: Clone> MemorySubscriber<T> {
    pub(super) fn open(shared: Arc<Shared<T>>, options: &SubscribeOptions) -> Option<Self> {
        let place = shared.sit_down(options)?;
        Some(Self { link: Arc::new(Link { shared, place, spare: AtomicCell::new(None) }), timer: None })
    }

    /// The next message; waits for one. Dropping the future loses nothing.
    pub fn receive(&mut self) -> Recv<'_, T> {
        Recv { subscriber: self, registered: false }
    }

    /// The next message, if there is one now.
    ///
    /// # Errors
    /// The queue is closed and empty.
    pub fn try_receive(&mut self) -> Result<Option<MemoryDelivery<T>>, SubscribeError> {
        let place = self.link.place;
        let mut spare = self.link.take_spare();
        let found = self
            .link
            .shared
            .step(|state, counters, wakes| state.take(place, &mut spare, counters, None, wakes));
        match found {
            Found::Message(taken) => Ok(Some(MemoryDelivery::new(&self.link, taken))),
            Found::Wait(_) => Ok(None),
            Found::Closed => Err(SubscribeError::Closed),
        }
    }

    #[inline]
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<MemoryDelivery<T>, SubscribeError>> {
        let place = self.link.place;
        loop {
            let mut spare = self.link.take_spare();
            let found = self.link.shared.step(|state, counters, wakes| {
                state.take(place, &mut spare, counters, Some(&*context), wakes)
            });
            match found {
                Found::Message(taken) => {
                    return Poll::Ready(Ok(MemoryDelivery::new(&self.link, taken)));
                }
                Found::Closed => return Poll::Ready(Err(SubscribeError::Closed)),
                Found::Wait(None) => return Poll::Pending,
                Found::Wait(Some(due)) => ready!(self.poll_timer(due, context)),
            }
        }
    }

    #[cold]
    fn poll_timer(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due || timer.is_elapsed() {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(context)
    }

    /// Takes up to `max` messages that are here already.
    fn take_ready(&mut self, max: usize, into: &mut Vec<MemoryDelivery<T>>) -> usize {
        let Self { link, .. } = self;
        link.shared.step(|state, counters, wakes| {
            for count in 0..max {
                match state.take(link.place, &mut None, counters, None, wakes) {
                    Found::Message(taken) => into.push(MemoryDelivery::new(link, taken)),
                    Found::Wait(_) | Found::Closed => return count,
                }
            }
            max
        })
    }
}

impl<T: Clone> Drop for MemorySubscriber<T> {
    fn drop(&mut self) {
        self.link.shared.stand_up(self.link.place);
    }
}

/// A receive that waits for one message.
#[must_use = "nothing is received until this is awaited"]
pub struct Recv<'a, T: Clone> {
    subscriber: &'a mut MemorySubscriber<T>,
    registered: bool,
}

impl<T: Clone> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").field("waiting", &self.registered).finish_non_exhaustive()
    }
}

impl<T: Clone> Future for Recv<'_, T> {
    type Output = Result<MemoryDelivery<T>, SubscribeError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.subscriber.poll_next(context);
        self.registered = polled.is_pending();
        polled
    }
}

impl<T: Clone> Drop for Recv<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.registered {
            let link = &self.subscriber.link;
            link.shared.step(|state, _, wakes| state.stop_waiting(link.place, wakes));
        }
    }
}

impl Subscriber for MemorySubscriber<Message> {
    type Delivery = MemoryDelivery<Message>;

    #[inline]
    async fn recv(&mut self) -> Result<Self::Delivery, SubscribeError> {
        self.receive().await
    }

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<Self::Delivery>,
    ) -> Result<usize, SubscribeError> {
        if max == 0 {
            return Ok(0);
        }
        into.push(self.receive().await?);
        Ok(1 + self.take_ready(max - 1, into))
    }
}
