//! The feed of results: what was processed, told to whoever listens, as it happens.
//!
//! A listener upgrades `GET /internal/v1/results` to `queuebench-results/1` and from then on reads frames, each
//! a length (u32, big-endian) and then: success u8, length of the message id u8, message id, result. Listeners
//! share the results, each result goes to one of them in turn; without a listener results are dropped, as they
//! were before there was a feed. Off unless `PROCESSOR_RESULT_FEED` asks for it, since it tells contents.
//!
//! Bounds: [`MAX_LISTENERS`], and per listener [`MAX_BEHIND_BYTES`] of unread results; one that falls further
//! behind is cut off, which it sees, rather than left with a gap, which it would not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BufMut as _;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tokio::io::AsyncReadExt as _;

use super::processing::{ProcessingResult, ResultSink};
use crate::pipeline::http::listener::Lifecycle;
use crate::pipeline::http::respond::{self, Answer};
use crate::pipeline::stream::outbox::Outbox;

/// Where the feed is.
pub(super) const PATH: &str = "/internal/v1/results";
/// What a listener upgrades to.
pub(super) const PROTOCOL: &str = "queuebench-results/1";

/// Listeners at once; one more is refused with 503.
const MAX_LISTENERS: usize = 64;
/// Results that a listener has not read yet.
const MAX_BEHIND_BYTES: usize = 64 << 20;
/// How long a listener may refuse to read.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Everyone who listens.
#[derive(Debug, Default)]
pub(super) struct Feed {
    listeners: RwLock<Vec<Arc<Outbox>>>,
    next: AtomicUsize,
    /// Who listened before the feed was put in front.
    also: Option<Also>,
}

/// A sink that the embedding program brought.
struct Also(Arc<dyn ResultSink>);

impl std::fmt::Debug for Also {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Also")
    }
}

impl ResultSink for Feed {
    fn result(&self, result: &ProcessingResult) {
        if let Some(also) = &self.also {
            also.0.result(result);
        }
        let listeners = self.listeners.read();
        if listeners.is_empty() {
            return;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        // A listener that is over takes nothing, and the next one gets the result.
        let _ = (0..listeners.len()).any(|offset| {
            let listener = &listeners[(first + offset) % listeners.len()];
            listener.push_within(MAX_BEHIND_BYTES, |into| write(into, result))
        });
    }
}

impl Feed {
    pub(super) fn before(also: Option<Arc<dyn ResultSink>>) -> Self {
        Self { also: also.map(Also), ..Self::default() }
    }

    /// Answers an upgrade request and tells its client of results until one of them leaves.
    pub(super) fn listen(self: &Arc<Self>, request: Request<Incoming>, lifecycle: &Lifecycle) -> Answer {
        let wanted = request.headers().get(UPGRADE).is_some_and(|value| value == PROTOCOL);
        if !wanted || lifecycle.drain.is_cancelled() {
            return respond::not_found();
        }
        let outbox = Arc::new(Outbox::default());
        {
            let mut listeners = self.listeners.write();
            if listeners.len() >= MAX_LISTENERS {
                let refusal = respond::plain(StatusCode::SERVICE_UNAVAILABLE, "Too many listeners");
                return respond::retry_after(refusal, Duration::from_secs(1));
            }
            listeners.push(Arc::clone(&outbox));
        }
        let (feed, of_task) = (Arc::clone(self), lifecycle.clone());
        // Not among the tasks that a shutdown waits for: a feed lasts as long as there are results, and those
        // come until the queue is closed. It ends with its client, at the latest with the process.
        tokio::spawn(async move {
            let telling = async {
                let upgraded = hyper::upgrade::on(request).await?;
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
                let gone = async {
                    let mut nothing = [0; 16];
                    // A listener says nothing; what is read is its leaving.
                    while reader.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
                };
                tokio::select! {
                    written = outbox.write_to(&mut writer, WRITE_LIMIT) => written?,
                    () = gone => {}
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            };
            let ended = tokio::select! {
                ended = telling => ended,
                () = of_task.abort.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a listener to the results left");
            }
            feed.listeners.write().retain(|other| !Arc::ptr_eq(other, &outbox));
            outbox.close();
        });
        let mut answer = Response::new(http_body_util::Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        answer
    }
}

fn write(into: &mut Vec<u8>, result: &ProcessingResult) {
    // An id of a foreign message may be longer than a frame can say; it then names nobody.
    let id = if result.message_id.len() <= 255 { result.message_id.as_bytes() } else { &[] };
    let length = 2 + id.len() + result.result.len();
    into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    into.put_u8(u8::from(result.success));
    into.put_u8(u8::try_from(id.len()).unwrap_or(0));
    into.put_slice(id);
    into.put_slice(&result.result);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_the_results_and_one_that_is_over_takes_none() {
        let feed = Feed::default();
        let (first, second) = (Arc::new(Outbox::default()), Arc::new(Outbox::default()));
        feed.listeners.write().extend([Arc::clone(&first), Arc::clone(&second)]);
        let result = ProcessingResult {
            message_id: "m-1".to_owned(),
            processed_at: 0,
            success: true,
            error: String::new(),
            result: b"PROCESSED_x".to_vec(),
        };
        feed.result(&result);
        feed.result(&result);
        let frame = b"\0\0\0\x10\x01\x03m-1PROCESSED_x";
        assert_eq!((first.waiting(), second.waiting()), (frame.to_vec(), frame.to_vec()));
        first.close();
        feed.result(&result);
        feed.result(&result);
        assert_eq!((first.waiting().len(), second.waiting().len()), (frame.len(), 3 * frame.len()));
    }
}
