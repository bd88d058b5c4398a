//! A message in a consumer's hands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::BACKEND;
use super::group::Taken;
use super::subscriber::Link;
use crate::message::Message;
use crate::queue::{AckError, Delivery};

/// An item taken from a [`Memory`](super::Memory) queue. Given back when it is dropped without an answer.
pub struct MemoryDelivery<T: Clone> {
    /// None once it is answered.
    taken: Option<Taken<T>>,
    link: Arc<Link<T>>,
}

/// Why the item is there.
const UNANSWERED: &str = "only an answer, which takes the delivery, empties it";

impl<T: Clone> fmt::Debug for MemoryDelivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken();
        f.debug_struct("MemoryDelivery")
            .field("sequence", &taken.sequence)
            .field("attempt", &taken.attempt)
            .finish_non_exhaustive()
    }
}

impl<T: Clone> MemoryDelivery<T> {
    #[inline]
    pub(super) fn new(link: &Arc<Link<T>>, taken: Taken<T>) -> Self {
        Self { taken: Some(taken), link: Arc::clone(link) }
    }

    #[inline]
    fn taken(&self) -> &Taken<T> {
        self.taken.as_ref().expect(UNANSWERED)
    }

    /// What was delivered.
    #[inline]
    pub fn item(&self) -> &T {
        (*self.taken().parcel).as_ref().expect(UNANSWERED)
    }

    /// Which delivery of this item this is, counted from 1.
    pub fn attempts(&self) -> u32 {
        self.taken().attempt
    }

    /// Processed: not to be delivered again.
    #[inline]
    pub fn accept(mut self) {
        if let Some(taken) = self.taken.take() {
            self.finish(taken);
        }
    }

    /// Processed: not to be delivered again, but moved out.
    #[inline]
    pub fn accept_into(mut self) -> T {
        let mut taken = self.taken.take().expect(UNANSWERED);
        let item = taken.parcel.take().expect(UNANSWERED);
        self.finish(taken);
        item
    }

    #[inline]
    fn finish(&self, mut taken: Taken<T>) {
        // The item is dropped here, not under the lock.
        *taken.parcel = None;
        let place = self.link.place;
        let parcel = if place.on_receive {
            // The next receive takes it along; a second one before that goes home by itself.
            self.link.spare.swap(Some(taken.parcel))
        } else {
            Some(taken.parcel)
        };
        let Some(parcel) = parcel else { return };
        let unneeded = self.link.shared.step(|state, counters, wakes| {
            if !place.on_receive {
                state.ack(place, counters, wakes);
            }
            state.recycle(parcel)
        });
        drop(unneeded);
    }

    /// Not processed: to be delivered again, not before `delay`. False: the queue is closed and dropped it.
    pub fn give_back(mut self, delay: Duration) -> bool {
        self.put_back(delay)
    }

    fn put_back(&mut self, delay: Duration) -> bool {
        let Some(taken) = self.taken.take() else { return true };
        let place = self.link.place;
        if place.on_receive {
            self.finish(taken);
            return true;
        }
        let due = if delay.is_zero() { None } else { Instant::now().checked_add(delay) };
        let dropped =
            self.link.shared.step(|state, counters, wakes| state.nack(place, taken, due, counters, wakes));
        dropped.is_none()
    }
}

impl<T: Clone> Drop for MemoryDelivery<T> {
    #[inline]
    fn drop(&mut self) {
        if self.taken.is_some() {
            self.put_back(Duration::ZERO);
        }
    }
}

impl Delivery for MemoryDelivery<Message> {
    #[inline]
    fn message(&self) -> &Message {
        self.item()
    }

    /// With explicit acknowledgement the queue keeps a copy that shares the payload, to deliver it again.
    fn take_message(&mut self) -> Message {
        match &mut self.taken {
            Some(taken) if self.link.place.on_receive => (*taken.parcel).replace(Message::default()),
            _ => None,
        }
        .unwrap_or_else(|| self.item().clone())
    }

    fn attempt(&self) -> Option<u32> {
        Some(self.attempts())
    }

    #[inline]
    async fn ack(self) -> Result<(), AckError> {
        self.accept();
        Ok(())
    }

    async fn nack(self, delay: Duration) -> Result<(), AckError> {
        if self.give_back(delay) {
            return Ok(());
        }
        Err(AckError {
            backend: BACKEND,
            reason: "the queue is closed and delivers nothing again".to_owned(),
        })
    }
}
