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
    /// None when delivery is answer enough.
    link: Option<Arc<Link<T>>>,
}

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
        let link = if link.place.on_receive { None } else { Some(Arc::clone(link)) };
        Self { taken: Some(taken), link }
    }

    #[inline]
    fn taken(&self) -> &Taken<T> {
        self.taken.as_ref().expect("only an answer, which takes the delivery, empties it")
    }

    /// What was delivered.
    #[inline]
    pub fn item(&self) -> &T {
        &self.taken().item
    }

    /// Which delivery of this item this is, counted from 1.
    pub fn attempts(&self) -> u32 {
        self.taken().attempt
    }

    /// Processed: not to be delivered again. Returns the item.
    #[inline]
    pub fn accept(mut self) -> T {
        let taken = self.taken.take().expect("an answer is given once, by value");
        if let Some(link) = self.link.take() {
            link.shared.step(|state, counters, wakes| state.ack(link.place, counters, wakes));
        }
        taken.item
    }

    /// Not processed: to be delivered again, not before `delay`. False: the queue is closed and dropped it.
    pub fn give_back(mut self, delay: Duration) -> bool {
        self.put_back(delay)
    }

    fn put_back(&mut self, delay: Duration) -> bool {
        let (Some(taken), Some(link)) = (self.taken.take(), self.link.take()) else { return true };
        let due = if delay.is_zero() { None } else { Instant::now().checked_add(delay) };
        let dropped =
            link.shared.step(|state, counters, wakes| state.nack(link.place, taken, due, counters, wakes));
        dropped.is_none()
    }
}

impl<T: Clone> Drop for MemoryDelivery<T> {
    #[inline]
    fn drop(&mut self) {
        if self.link.is_some() {
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
        match (&mut self.taken, &self.link) {
            (Some(taken), None) => std::mem::take(&mut taken.item),
            _ => self.item().clone(),
        }
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
