//! Reads a request's body within bounds of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::respond::{self, Answer};
use crate::pipeline::admission::Permit;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("request body is over the limit")]
    TooLarge,
    #[error("request body did not arrive in time")]
    TimedOut,
    #[error("request body broke off")]
    Broken,
    #[error("too many bytes are in work")]
    Busy,
}

impl BodyError {
    /// What the client is told. The connection ends, for the rest of the body may still be coming.
    pub(crate) fn answer(self) -> Answer {
        let mut answer = match self {
            Self::TooLarge => respond::plain(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
            Self::TimedOut => respond::plain(StatusCode::REQUEST_TIMEOUT, "Request body timed out"),
            Self::Broken => respond::plain(StatusCode::BAD_REQUEST, "Invalid request body"),
            Self::Busy => respond::retry_after(
                respond::plain(StatusCode::SERVICE_UNAVAILABLE, "Service overloaded"),
                Duration::from_secs(1),
            ),
        };
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// The whole body, at most `max_bytes` of it, within `timeout`; its bytes are charged to `permit`.
pub(crate) async fn read(
    mut body: Incoming,
    max_bytes: usize,
    timeout: Duration,
    permit: &mut Permit,
) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let reading = async {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if first.len() + rest.len() + data.len() > max_bytes {
                return Err(BodyError::TooLarge);
            }
            if !permit.grow(data.len()) {
                return Err(BodyError::Busy);
            }
            // A body that came in one piece, as nearly all do, is not copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    };
    tokio::time::timeout(timeout, reading).await.unwrap_or(Err(BodyError::TimedOut))
}
