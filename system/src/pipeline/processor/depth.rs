//! How much is in the queue, asked for at intervals and kept for scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::queue::Queue;

const UNKNOWN: u64 = u64::MAX;
/// A broker that does not answer must not hold up statistics.
const LIMIT: Duration = Duration::from_secs(1);

/// The last known depth.
#[derive(Debug)]
pub(super) struct KnownDepth(AtomicU64);

impl Default for KnownDepth {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl KnownDepth {
    /// Asks the queue; whatever it does not know stays absent.
    pub(super) async fn refresh<Q: Queue>(&self, queue: &Q) -> Result<Option<u64>, String> {
        let depth = match tokio::time::timeout(LIMIT, queue.depth()).await {
            Ok(Ok(depth)) => Ok(depth.total()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{} did not tell its depth within {LIMIT:?}", queue.backend())),
        };
        let known = depth.as_ref().ok().copied().flatten();
        self.0.store(known.unwrap_or(UNKNOWN), Ordering::Relaxed);
        depth
    }

    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|depth| *depth != UNKNOWN)
    }
}
