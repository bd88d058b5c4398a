//! The bound on messages in flight, and who waits at it.
//!
//! Entering and leaving are one atomic operation each. A publisher at the bound waits on a
//! [`tokio::sync::Notify`], which needs no runtime, so it may be an ordinary thread that blocks on the
//! future. It is woken when a sixteenth of the window is free again rather than at the first free place:
//! librdkafka answers whole batches, and a wake-up per message would cost more than the message.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Counts messages in flight up to a bound.
#[derive(Debug)]
pub(super) struct Window {
    in_flight: CachePadded<AtomicUsize>,
    waiting: CachePadded<AtomicUsize>,
    most: usize,
    wake_below: usize,
    closed: AtomicBool,
    freed: Notify,
    idle_waiting: AtomicUsize,
    idle_lock: Mutex<()>,
    idle: Condvar,
}

/// The window was closed; nothing more gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Window {
    /// A window for `most` messages, at least one.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            in_flight: CachePadded::new(AtomicUsize::new(0)),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            most,
            wake_below: most - (most / 16).max(1),
            closed: AtomicBool::new(false),
            freed: Notify::new(),
            idle_waiting: AtomicUsize::new(0),
            idle_lock: Mutex::new(()),
            idle: Condvar::new(),
        }
    }

    /// Takes a place if there is one.
    pub(super) fn try_enter(&self) -> Result<bool, Closed> {
        let entered =
            self.in_flight.fetch_update(SeqCst, SeqCst, |now| (now < self.most).then_some(now + 1)).is_ok();
        // Looked at after entering, so that whoever closes either sees this message in flight or is seen.
        if self.closed.load(SeqCst) {
            if entered {
                self.leave();
            }
            return Err(Closed);
        }
        Ok(entered)
    }

    /// Takes a place, waiting for one.
    pub(super) async fn enter(&self) -> Result<(), Closed> {
        if self.try_enter()? {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.try_enter()? {
                return Ok(());
            }
            freed.await;
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        let left = self.in_flight.fetch_sub(1, SeqCst) - 1;
        if left <= self.wake_below && self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
        if left == 0 && self.idle_waiting.load(SeqCst) > 0 {
            drop(self.idle_lock.lock());
            self.idle.notify_all();
        }
    }

    /// Waits until something in flight is answered; returns at once (after letting others run) when
    /// nothing is. For a client that is full by another measure than the count.
    pub(super) async fn progress(&self) {
        let _waiting = Waiting::new(&self.waiting);
        let mut freed = std::pin::pin!(self.freed.notified());
        freed.as_mut().enable();
        if self.in_flight() == 0 {
            std::thread::yield_now();
            return;
        }
        freed.await;
    }

    /// Messages in flight now.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    /// Lets nothing more in and sends the waiting away.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        // One permit stays for a waiter that is about to wait; it passes the news on.
        self.freed.notify_waiters();
        self.freed.notify_one();
    }

    /// Blocks until nothing is in flight, or the deadline; returns what still is.
    pub(super) fn wait_idle(&self, until: Instant) -> usize {
        self.idle_waiting.fetch_add(1, SeqCst);
        let mut lock = self.idle_lock.lock();
        while self.in_flight() > 0 {
            // The bound on one wait covers a `leave` that looked before this thread was counted.
            let step = (Instant::now() + Duration::from_millis(50)).min(until);
            if self.idle.wait_until(&mut lock, step).timed_out() && Instant::now() >= until {
                break;
            }
        }
        drop(lock);
        self.idle_waiting.fetch_sub(1, SeqCst);
        self.in_flight()
    }
}

/// Counts a waiter for as long as its future lives, cancelled or not.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Drives a future on this thread without a runtime, as a user's own thread would.
    fn block_on<F: Future>(future: F) -> F::Output {
        struct Unpark(thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn never_more_than_the_bound_is_in_flight_and_every_waiter_gets_in() {
        for most in [1, 2, 17, 64] {
            let window = Arc::new(Window::new(most));
            let (inside, outside) = std::sync::mpsc::channel();
            let publishers: Vec<_> = (0..4)
                .map(|_| {
                    let (window, inside) = (Arc::clone(&window), inside.clone());
                    thread::spawn(move || {
                        for _ in 0..5_000 {
                            block_on(window.enter()).unwrap();
                            assert!(window.in_flight() <= most);
                            inside.send(()).unwrap();
                        }
                    })
                })
                .collect();
            for _ in 0..4 * 5_000 {
                outside.recv_timeout(Duration::from_secs(20)).expect("a publisher was never woken");
                window.leave();
            }
            for publisher in publishers {
                publisher.join().unwrap();
            }
            assert_eq!(window.wait_idle(Instant::now()), 0);
        }
    }

    #[test]
    fn closing_sends_every_waiter_away() {
        let window = Arc::new(Window::new(1));
        assert_eq!(window.try_enter(), Ok(true));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let window = Arc::clone(&window);
                thread::spawn(move || block_on(window.enter()))
            })
            .collect();
        while window.waiting.load(SeqCst) < 3 {
            thread::yield_now();
        }
        window.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(Closed));
        }
        assert_eq!(window.in_flight(), 1, "what was in flight still is");
    }

    #[test]
    fn waiting_for_idle_ends_with_the_last_answer_or_the_deadline() {
        let window = Arc::new(Window::new(4));
        assert_eq!(window.try_enter(), Ok(true));
        assert_eq!(window.wait_idle(Instant::now() + Duration::from_millis(10)), 1);
        let other = Arc::clone(&window);
        let waiter = thread::spawn(move || other.wait_idle(Instant::now() + Duration::from_secs(20)));
        window.leave();
        assert_eq!(waiter.join().unwrap(), 0);
    }
}
