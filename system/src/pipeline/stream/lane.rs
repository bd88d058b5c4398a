//! The client's side of a stream: sends requests, hands each answer to whoever waits for it.
//!
//! Bounds: [`MAX_PENDING`] calls, one time limit for all of them. A call that gets no answer in time fails, and
//! if the peer was silent all that time the connection is given up, so a dead peer is noticed. When the
//! connection ends, every waiting call fails at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{self, AnswerFrame, FAREWELL};
use super::outbox::Outbox;
use super::pending::Pending;
use crate::pipeline::context::RequestContext;

/// Calls without an answer on one connection.
const MAX_PENDING: usize = 65_536;
/// How late an overdue call may be noticed.
const SWEEP: Duration = Duration::from_millis(50);
/// Answers are small; a larger one is a broken peer.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why a call has no answer. What was sent may still have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("no answer in time")]
    TimedOut,
    #[error("connection lost")]
    Lost,
    #[error("too many calls without an answer")]
    Busy,
}

/// Takes the fate of one call.
pub(crate) type Reply = Box<dyn FnOnce(Result<AnswerFrame, LaneError>) + Send>;

/// One stream.
pub(crate) struct Lane {
    outbox: Outbox,
    pending: Mutex<Pending<Reply>>,
    timeout: Duration,
    /// No call may begin: the peer said farewell, or the connection is over.
    closed: CancellationToken,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("pending", &self.pending.lock().len()).finish_non_exhaustive()
    }
}

impl Lane {
    pub(crate) fn new(timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            outbox: Outbox::default(),
            pending: Mutex::new(Pending::new(MAX_PENDING)),
            timeout,
            closed: CancellationToken::new(),
        })
    }

    /// Whether calls may begin.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Sends one request; `reply` is called exactly once, possibly before this returns.
    pub(crate) fn call(&self, context: &RequestContext, body: impl FnOnce(&mut Vec<u8>), reply: Reply) {
        let number = self.pending.lock().insert(Instant::now() + self.timeout, reply);
        let number = match number {
            Ok(number) => number,
            Err(reply) => return reply(Err(LaneError::Busy)),
        };
        let sent =
            self.is_open() && self.outbox.push(|into| frame::write_request(into, number, context, body));
        if !sent && let Some(reply) = self.take(number) {
            reply(Err(LaneError::Lost));
        }
    }

    /// Carries requests and answers over `reader` and `writer` until the connection ends or `stop` is asked
    /// for and nothing waits any more.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut reader: impl AsyncRead + Unpin + Send,
        mut writer: impl AsyncWrite + Unpin + Send,
        write_limit: Duration,
        stop: CancellationToken,
    ) {
        let reading = self.read(&mut reader, stop);
        let writing = self.outbox.write_to(&mut writer, write_limit);
        let ended = tokio::select! {
            ended = reading => ended,
            ended = async { writing.await?; std::future::pending().await } => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "stream to the next service ended");
        }
        self.closed.cancel();
        self.outbox.close();
        let waiting = self.pending.lock().clear();
        for reply in waiting {
            reply(Err(LaneError::Lost));
        }
    }

    async fn read(&self, reader: &mut (impl AsyncRead + Unpin), stop: CancellationToken) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    while let Some(answer) = frame::next_answer(&mut buffer, MAX_ANSWER_BYTES)
                        .map_err(io::Error::other)?
                    {
                        self.answered(answer);
                    }
                    heard = Instant::now();
                }
                _ = sweep.tick() => {
                    let now = Instant::now();
                    let expired = self.pending.lock().expire(now);
                    let silent = !expired.is_empty() && now - heard >= self.timeout;
                    for reply in expired {
                        reply(Err(LaneError::TimedOut));
                    }
                    if silent {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
            let leaving = stop.is_cancelled() || !self.is_open();
            if leaving && self.pending.lock().len() == 0 {
                return Ok(());
            }
        }
    }

    fn answered(&self, answer: AnswerFrame) {
        if answer.id == FAREWELL {
            self.closed.cancel();
        } else if let Some(reply) = self.take(answer.id) {
            reply(Ok(answer));
        }
    }

    fn take(&self, number: u64) -> Option<Reply> {
        self.pending.lock().take(number)
    }
}

/// An answer as a future.
pub(crate) async fn call(
    lane: &Lane,
    context: &RequestContext,
    body: Bytes,
) -> Result<AnswerFrame, LaneError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let reply: Reply = Box::new(move |answer| {
        // A caller that went away needs no answer.
        let _ = sender.send(answer);
    });
    lane.call(context, |into| into.extend_from_slice(&body), reply);
    receiver.await.unwrap_or(Err(LaneError::Lost))
}
