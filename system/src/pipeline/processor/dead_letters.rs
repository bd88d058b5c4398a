//! Messages that could not be processed.
//!
//! The most recent ones are kept in memory for inspection, bounded in number and bytes (the oldest are dropped
//! first). With a durable queue they also go to a queue of their own, and the original is acknowledged only
//! once they are there.

use std::collections::VecDeque;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::message::Message;
use crate::queue::{Outcome, Producer, Publisher};

/// Most payload bytes kept for inspection.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// One message that could not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// As it lay in the queue.
    pub message: Message,
    /// What the last attempt said.
    pub reason: String,
    /// How often it was tried; 0 when it could not even be read.
    pub attempts: u32,
    /// Unix seconds.
    pub at: i64,
}

/// A durable place for dead letters.
pub trait DeadLetterQueue: Send + Sync + 'static {
    /// Returns once the letter is safe.
    fn put(&self, letter: Message) -> BoxFuture<'_, Result<(), String>>;
}

impl<P: Publisher> DeadLetterQueue for Producer<P> {
    fn put(&self, letter: Message) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            match self.publish(letter).await.map_err(|error| error.to_string())?.await {
                Outcome::Acknowledged => Ok(()),
                Outcome::Rejected(reason) => Err(reason.to_string()),
                Outcome::Unknown(reason) => Err(reason.to_string()),
            }
        })
    }
}

#[derive(Debug, Default)]
struct Kept {
    letters: VecDeque<DeadLetter>,
    bytes: usize,
}

/// The letters of one processor.
pub(super) struct DeadLetters {
    kept: Mutex<Kept>,
    max: usize,
    queue: Option<std::sync::Arc<dyn DeadLetterQueue>>,
}

impl DeadLetters {
    pub(super) fn new(max: usize, queue: Option<std::sync::Arc<dyn DeadLetterQueue>>) -> Self {
        Self { kept: Mutex::default(), max, queue }
    }

    /// Keeps a letter.
    ///
    /// # Errors
    /// When the queue of dead letters did not take it; the original must then stay where it is.
    pub(super) async fn put(&self, letter: DeadLetter) -> Result<(), String> {
        if let Some(queue) = &self.queue {
            let mut copy = letter.message.clone();
            let attempts = letter.attempts.to_string();
            copy.headers
                .push((b"x-dead-letter-reason".as_slice().into(), header_text(&letter.reason).into()));
            copy.headers.push((b"x-dead-letter-attempts".as_slice().into(), attempts.into_bytes().into()));
            queue.put(copy).await?;
        }
        let mut kept = self.kept.lock();
        kept.bytes += letter.message.payload.len();
        kept.letters.push_back(letter);
        while kept.letters.len() > self.max || kept.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = kept.letters.pop_front() else { break };
            kept.bytes -= oldest.message.payload.len();
        }
        Ok(())
    }

    pub(super) fn recent(&self) -> Vec<DeadLetter> {
        self.kept.lock().letters.iter().cloned().collect()
    }

    /// Ids and reasons as JSON; contents stay inside.
    pub(super) fn listing(&self) -> String {
        let kept = self.kept.lock();
        let letters: Vec<_> = kept
            .letters
            .iter()
            .map(|letter| {
                serde_json::json!({
                    "id": letter.message.id.as_str(),
                    "reason": letter.reason,
                    "attempts": letter.attempts,
                    "at": letter.at,
                })
            })
            .collect();
        serde_json::json!({ "dead_letters": letters }).to_string()
    }
}

/// Headers of brokers take one line of printable text.
fn header_text(reason: &str) -> Vec<u8> {
    reason.bytes().filter(|byte| matches!(byte, 0x20..=0x7e)).take(256).collect()
}
