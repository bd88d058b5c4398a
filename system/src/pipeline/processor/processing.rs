//! What is done with a message, as a trait that a user implements.

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::pipeline::wire::DataMessage;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessingResult {
    /// Which one.
    pub message_id: String,
    /// Unix seconds.
    pub processed_at: i64,
    /// Whether it was processed.
    pub success: bool,
    /// Why not.
    pub error: String,
    /// What came out.
    pub result: Vec<u8>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessingError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// No attempt will.
    #[error("{0}")]
    Fatal(String),
}

/// Processes one message; may be called again for the same one, since delivery is at least once.
pub trait Processing: Send + Sync + 'static {
    /// Returns what came out. Panics and overlong runs count as failed attempts.
    fn process(&self, message: &DataMessage)
    -> impl Future<Output = Result<Vec<u8>, ProcessingError>> + Send;
}

/// The standard processing: the payload after `PROCESSED_`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefix;

impl Processing for Prefix {
    async fn process(&self, message: &DataMessage) -> Result<Vec<u8>, ProcessingError> {
        Ok([b"PROCESSED_", message.payload.as_slice()].concat())
    }
}

/// Hears of every result, on the worker that made it; must not block.
pub trait ResultSink: Send + Sync + 'static {
    /// One message is done, well or not.
    fn result(&self, result: &ProcessingResult);
}

impl<F: Fn(&ProcessingResult) + Send + Sync + 'static> ResultSink for F {
    fn result(&self, result: &ProcessingResult) {
        self(result);
    }
}

pub(super) fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}
