//! The same queue for threads that have no runtime: they give way to other threads a few times, which in a
//! busy queue is all it takes, and then sleep until they are woken.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::delivery::MemoryDelivery;
use super::publisher::MemoryPublisher;
use super::subscriber::MemorySubscriber;
use crate::queue::{PublishError, SubscribeError};

/// How often a thread gives way before it sleeps. Putting a thread to sleep and waking it costs the same as
/// some dozen turns, and as much again to the thread that wakes it.
const TURNS: usize = 64;

impl<T: Clone> MemoryPublisher<T> {
    /// [`send`](Self::send) for a thread: blocks it while the queue is full, if that is the policy.
    ///
    /// # Errors
    /// The queue is closed, or full and set to reject.
    pub fn send_blocking(&self, item: T) -> Result<(), PublishError> {
        let mut item = Some(item);
        for _ in 0..TURNS {
            if let Poll::Ready(sent) = self.try_send(&mut item) {
                return sent;
            }
            std::thread::yield_now();
        }
        match item {
            Some(item) => sleep_until_ready(self.send(item)),
            None => Ok(()),
        }
    }
}

impl<T: Clone> MemorySubscriber<T> {
    /// [`receive`](Self::receive) for a thread: blocks it until there is a message. A message that was given
    /// back with a delay needs a runtime to come again.
    ///
    /// # Errors
    /// The queue is closed and empty.
    pub fn receive_blocking(&mut self) -> Result<MemoryDelivery<T>, SubscribeError> {
        for _ in 0..TURNS {
            if let Some(delivery) = self.try_receive()? {
                return Ok(delivery);
            }
            std::thread::yield_now();
        }
        sleep_until_ready(self.receive())
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn sleep_until_ready<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
