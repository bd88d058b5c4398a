//! Which lanes are free. One thread uses it, so there is nothing to lock.

use std::cell::RefCell;

use tokio::sync::Notify;

/// The lanes of one worker.
#[derive(Debug)]
pub(super) struct Lanes {
    free: RefCell<Vec<u32>>,
    freed: Notify,
}

impl Lanes {
    pub(super) fn new(count: u32) -> Self {
        Self { free: RefCell::new((0..count).rev().collect()), freed: Notify::new() }
    }

    pub(super) fn try_take(&self) -> Option<u32> {
        self.free.borrow_mut().pop()
    }

    pub(super) async fn take(&self) -> u32 {
        loop {
            if let Some(lane) = self.try_take() {
                return lane;
            }
            // A lane given back before this wait left a permit.
            self.freed.notified().await;
        }
    }

    pub(super) fn give_back(&self, lane: u32) {
        self.free.borrow_mut().push(lane);
        self.freed.notify_one();
    }
}
