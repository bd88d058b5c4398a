//! The service's side of a stream: reads requests in batches, writes answers as they come.
//!
//! All whole frames of one read are handed over together; the next read waits until they were taken, so a slow
//! service slows its callers down instead of filling up. On `drain` the farewell is sent and what was already
//! sent is still answered; the client then closes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::frame::{self, FAREWELL, RequestFrame};
use super::outbox::Outbox;
use super::{KEEP_BUFFER_BYTES, PROTOCOL};
use crate::pipeline::http::listener::Lifecycle;
use crate::pipeline::http::respond::{self, Answer};

/// Answers the requests of a stream.
pub(crate) trait StreamService: Send + Sync + 'static {
    /// Takes all of `requests`; each is answered through `answers`, now or later.
    fn take(
        self: &Arc<Self>,
        requests: &mut Vec<RequestFrame>,
        answers: &Answers,
    ) -> impl Future<Output = ()> + Send;
}

/// Where answers go.
#[derive(Clone, Debug)]
pub(crate) struct Answers(Arc<Outbox>);

impl Answers {
    /// Answers one request. If the connection is over, nobody waits for it.
    pub(crate) fn send(&self, id: u64, status: StatusCode, retry_after_s: u16, body: &[u8]) {
        self.0.push(|into| frame::write_answer(into, id, status.as_u16(), retry_after_s, body));
    }
}

/// Limits of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLimits {
    pub(crate) max_body_bytes: usize,
    pub(crate) write_timeout: Duration,
}

/// Answers an upgrade request and serves the stream it begins.
pub(crate) fn upgrade<S: StreamService>(
    request: Request<Incoming>,
    service: Arc<S>,
    limits: StreamLimits,
    lifecycle: &Lifecycle,
) -> Answer {
    let wanted = request.headers().get(UPGRADE).is_some_and(|value| value == PROTOCOL);
    if !wanted || lifecycle.drain.is_cancelled() {
        return respond::not_found();
    }
    let of_task = lifecycle.clone();
    lifecycle.tasks.spawn(async move {
        let upgraded = tokio::select! {
            upgraded = hyper::upgrade::on(request) => upgraded,
            () = of_task.abort.cancelled() => return,
        };
        let Ok(upgraded) = upgraded else { return };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let outbox = Arc::new(Outbox::default());
        let reading = async {
            let ended = read(&mut reader, &service, &Answers(Arc::clone(&outbox)), limits, &of_task).await;
            outbox.close();
            ended
        };
        let writing = outbox.write_to(&mut writer, limits.write_timeout);
        let ended = tokio::select! {
            ended = async { tokio::try_join!(reading, writing) } => ended.map(|_| ()),
            () = of_task.abort.cancelled() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "stream from the previous service ended");
        }
    });
    let mut answer = Response::new(http_body_util::Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    answer
}

async fn read<S: StreamService>(
    reader: &mut (impl AsyncRead + Unpin),
    service: &Arc<S>,
    answers: &Answers,
    limits: StreamLimits,
    lifecycle: &Lifecycle,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut requests = Vec::new();
    let mut said_farewell = false;
    loop {
        buffer.reserve(16 * 1024);
        let read = tokio::select! {
            read = reader.read_buf(&mut buffer) => read?,
            () = lifecycle.drain.cancelled(), if !said_farewell => {
                said_farewell = true;
                answers.0.push(|into| frame::write_answer(into, FAREWELL, 0, 0, &[]));
                continue;
            }
        };
        if read == 0 {
            return Ok(());
        }
        while let Some(request) =
            frame::next_request(&mut buffer, limits.max_body_bytes).map_err(io::Error::other)?
        {
            requests.push(request);
        }
        if !requests.is_empty() {
            service.take(&mut requests, answers).await;
            requests.clear();
        }
        if buffer.is_empty() && buffer.capacity() > KEEP_BUFFER_BYTES {
            buffer = BytesMut::with_capacity(64 * 1024);
        }
    }
}
