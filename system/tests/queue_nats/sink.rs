//! Collects outcomes by token.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use queuebench_system::queue::{Completions, Outcome, Token};

#[derive(Default)]
pub(crate) struct Sink {
    outcomes: Mutex<BTreeMap<u64, Outcome>>,
    more: Condvar,
}

impl Completions for Sink {
    fn complete(&self, token: Token, outcome: Outcome) {
        let before = self.outcomes.lock().unwrap().insert(token.0, outcome);
        assert_eq!(before, None, "token {} completed twice", token.0);
        self.more.notify_all();
    }
}

impl Sink {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn all(&self) -> BTreeMap<u64, Outcome> {
        self.outcomes.lock().unwrap().clone()
    }

    /// Blocks until `count` tokens have their outcome.
    pub(crate) fn wait(&self, count: usize) -> BTreeMap<u64, Outcome> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut outcomes = self.outcomes.lock().unwrap();
        while outcomes.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {} of {count} outcomes came", outcomes.len());
            outcomes = self.more.wait_timeout(outcomes, left).unwrap().0;
        }
        outcomes.clone()
    }
}
