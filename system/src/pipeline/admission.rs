//! How many requests, and how many bytes of them, may be in work at once.
//!
//! Two counters with a bound each; at the bound a request is refused at once (503 with `Retry-After`), so a
//! service never holds more than it said it would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bounds of one service.
#[derive(Debug)]
pub(crate) struct Admission {
    max_requests: usize,
    max_bytes: usize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// The right to be in work; gives its share back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Nothing in work.
    pub(crate) fn new(max_requests: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { max_requests, max_bytes, requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    /// A permit for one request of `bytes`, if both bounds allow it.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut permit = Permit { admission: Arc::clone(self), bytes: 0 };
        permit.grow(bytes).then_some(permit)
    }

    /// Requests in work.
    pub(crate) fn in_flight(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Asks for `more` bytes; says whether they were granted.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let before = self.admission.bytes.fetch_add(more, Ordering::Relaxed);
        let granted = before.saturating_add(more) <= self.admission.max_bytes;
        if granted {
            self.bytes += more;
        } else {
            self.admission.bytes.fetch_sub(more, Ordering::Relaxed);
        }
        granted
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_shares_come_back() {
        let admission = Admission::new(2, 100);
        let first = admission.admit(60).unwrap();
        assert!(admission.admit(41).is_none());
        assert_eq!(admission.in_flight(), 1);
        let mut second = admission.admit(30).unwrap();
        assert!(admission.admit(0).is_none(), "two requests are the bound");
        assert!(second.grow(10));
        assert!(!second.grow(1));
        drop(first);
        assert!(second.grow(60));
        drop(second);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(admission.in_flight(), 0);
    }
}
