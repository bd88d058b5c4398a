//! Between the wire form and the queue's form of a message.

use bytes::Bytes;

use crate::message::{Message, MessageId};
use crate::pipeline::context::RequestContext;
use crate::pipeline::wire::{DataMessage, WireError};
use crate::telemetry::trace_context::TRACEPARENT;

/// Reads a body and makes the queue's message of it: known fields only, written anew, so that what lies in a
/// broker has one form and shares no memory with the connection it came from.
pub(super) fn of_body(body: &[u8], context: &RequestContext) -> Result<Message, WireError> {
    let parsed = DataMessage::parse(body)?;
    let mut wire = Vec::with_capacity(body.len() + 16);
    parsed.write(&mut wire);
    wire.shrink_to_fit();
    let id = MessageId::from(parsed.id);
    let key = Bytes::copy_from_slice(id.as_bytes());
    let mut headers = Vec::with_capacity(3);
    let mut add = |name: &'static str, value: Bytes| {
        // Brokers carry one line of text; what is no such line is in the body anyway.
        if !value.is_empty() && value.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f) {
            headers.push((Bytes::from_static(name.as_bytes()), value));
        }
    };
    add("source", parsed.source.into_bytes().into());
    add(X_REQUEST_ID_NAME, Bytes::copy_from_slice(&context.request_id));
    if let Some(trace) = context.trace {
        add(TRACEPARENT, trace.to_string().into_bytes().into());
    }
    Ok(Message { id, key, payload: wire.into(), headers })
}

/// The broker header has the name of the HTTP header.
const X_REQUEST_ID_NAME: &str = "x-request-id";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::http::respond::X_REQUEST_ID;

    #[test]
    fn a_body_in_any_form_lies_in_the_queue_in_one_form() {
        assert_eq!(X_REQUEST_ID.as_str(), X_REQUEST_ID_NAME);
        let context = RequestContext::of_parts(Bytes::from_static(b"r-1"), None);
        let body = br#"{"PAYLOAD":"YQ==","extra":[1],"ID":"m-1","source":"a\nb"} tail"#;
        let message = of_body(body, &context).unwrap();
        assert_eq!(message.payload, &br#"{"id":"m-1","source":"a\nb","payload":"YQ=="}"#[..]);
        assert_eq!(message.id.as_str(), "m-1");
        assert_eq!(message.key, "m-1");
        let names: Vec<_> = message.headers.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, ["x-request-id"], "a source of two lines is no header");
    }
}
