//! The frames of a stream, big-endian, each preceded by its length as a u32.
//!
//! | frame | fields |
//! |---|---|
//! | request | id u64, flags u8 (1: trace present, 2: sampled), [trace id u128, span id u64], length of request id u8, request id, body |
//! | answer | id u64, status u16, retry after (seconds, 0: none) u16, body |
//!
//! The answer with id `u64::MAX` is the farewell. A frame over the limit ends the connection.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::pipeline::context::RequestContext;
use crate::telemetry::trace_context::TraceContext;

/// Id of the answer that says that no further request will be read.
pub(crate) const FAREWELL: u64 = u64::MAX;

/// Bytes of a frame besides its body: the most that the fields above add up to.
const MAX_HEAD_BYTES: usize = 8 + 1 + 24 + 1 + 255;

/// The peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub(crate) struct FrameError;

/// A request as the server reads it.
#[derive(Debug)]
pub(crate) struct RequestFrame {
    pub(crate) id: u64,
    pub(crate) context: RequestContext,
    pub(crate) body: Bytes,
}

/// An answer as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnswerFrame {
    pub(crate) id: u64,
    pub(crate) status: u16,
    pub(crate) retry_after_s: u16,
    pub(crate) body: Bytes,
}

/// Appends a request whose body is written by `body`.
pub(crate) fn write_request(
    into: &mut Vec<u8>,
    id: u64,
    context: &RequestContext,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = begin(into);
    into.put_u64(id);
    match context.trace {
        Some(trace) => {
            into.put_u8(if trace.sampled { 3 } else { 1 });
            into.put_u128(trace.trace_id);
            into.put_u64(trace.span_id);
        }
        None => into.put_u8(0),
    }
    // A context's request id is at most 128 bytes long.
    into.put_u8(u8::try_from(context.request_id.len()).unwrap_or(0));
    into.extend_from_slice(&context.request_id);
    body(into);
    end(into, start);
}

/// Appends an answer.
pub(crate) fn write_answer(into: &mut Vec<u8>, id: u64, status: u16, retry_after_s: u16, body: &[u8]) {
    let start = begin(into);
    into.put_u64(id);
    into.put_u16(status);
    into.put_u16(retry_after_s);
    into.extend_from_slice(body);
    end(into, start);
}

fn begin(into: &mut Vec<u8>) -> usize {
    let start = into.len();
    into.put_u32(0);
    start
}

fn end(into: &mut [u8], start: usize) {
    // Bodies are bounded far below 4 GiB before they get here.
    let length = u32::try_from(into.len() - start - 4).unwrap_or(u32::MAX);
    into[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Takes one whole frame off the front, without its length.
fn next(buffer: &mut BytesMut, max_body_bytes: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).map_err(|_| FrameError)?;
    if length > max_body_bytes.saturating_add(MAX_HEAD_BYTES) {
        return Err(FrameError);
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The next whole request, if there is one.
pub(crate) fn next_request(
    buffer: &mut BytesMut,
    max_body_bytes: usize,
) -> Result<Option<RequestFrame>, FrameError> {
    let Some(mut frame) = next(buffer, max_body_bytes)? else { return Ok(None) };
    let id = frame.try_get_u64().map_err(|_| FrameError)?;
    let flags = frame.try_get_u8().map_err(|_| FrameError)?;
    let trace = if flags & 1 == 1 {
        let trace_id = frame.try_get_u128().map_err(|_| FrameError)?;
        let span_id = frame.try_get_u64().map_err(|_| FrameError)?;
        Some(TraceContext { trace_id, span_id, sampled: flags & 2 == 2 })
    } else {
        None
    };
    let length = usize::from(frame.try_get_u8().map_err(|_| FrameError)?);
    if frame.len() < length {
        return Err(FrameError);
    }
    let request_id = frame.split_to(length);
    Ok(Some(RequestFrame { id, context: RequestContext::of_parts(request_id, trace), body: frame }))
}

/// The next whole answer, if there is one.
pub(crate) fn next_answer(
    buffer: &mut BytesMut,
    max_body_bytes: usize,
) -> Result<Option<AnswerFrame>, FrameError> {
    let Some(mut frame) = next(buffer, max_body_bytes)? else { return Ok(None) };
    let id = frame.try_get_u64().map_err(|_| FrameError)?;
    let status = frame.try_get_u16().map_err(|_| FrameError)?;
    let retry_after_s = frame.try_get_u16().map_err(|_| FrameError)?;
    Ok(Some(AnswerFrame { id, status, retry_after_s, body: frame }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_024;

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(next_request(&mut buffer, MAX).is_err());
        assert!(buffer.capacity() < 4_096);
    }

    proptest! {
        // Any cut of the bytes into pieces gives the same frames in the same order.
        #[test]
        fn frames_survive_any_fragmentation(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..10),
            cut in 1usize..50,
            traced: bool,
        ) {
            let trace = traced.then_some(TraceContext { trace_id: 7, span_id: 9, sampled: true });
            let context = RequestContext { request_id: Bytes::from_static(b"r-1"), trace };
            let (mut requests, mut answers) = (Vec::new(), Vec::new());
            for (id, body) in bodies.iter().enumerate() {
                write_request(&mut requests, id as u64, &context, |into| into.extend_from_slice(body));
                write_answer(&mut answers, id as u64, 202, 1, body);
            }
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in requests.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next_request(&mut buffer, MAX).unwrap() {
                    prop_assert_eq!(frame.id, seen.len() as u64);
                    prop_assert_eq!(frame.context.trace, trace);
                    prop_assert_eq!(&frame.context.request_id[..], b"r-1");
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(&seen, &bodies);
            seen.clear();
            for piece in answers.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next_answer(&mut buffer, MAX).unwrap() {
                    prop_assert_eq!((frame.id, frame.status, frame.retry_after_s), (seen.len() as u64, 202, 1));
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(&seen, &bodies);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next_request(&mut buffer, MAX) {}
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next_answer(&mut buffer, MAX) {}
        }
    }
}
