//! Between a [`Message`] and NATS headers.
//!
//! A message without id, key and headers is sent without a header block: the header map of the client
//! library costs three to four allocations a message. The key travels as `Queuebench-Key` when it is text
//! that a header can hold, else as `Queuebench-Key-Hex`. The subject stays one for all keys, so the server's
//! index by subject stays small.

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, NATS_MESSAGE_ID};
use bytes::Bytes;

use super::BACKEND;
use crate::message::{Message, MessageId};
use crate::queue::PublishError;

const KEY: &str = "Queuebench-Key";
const KEY_HEX: &str = "Queuebench-Key-Hex";
const ID: &str = "Nats-Msg-Id";

/// `NATS/1.0\r\n` and the closing line.
const BLOCK_BYTES: usize = 12;

/// What the header block of `message` takes on the wire; 0 without one.
///
/// # Errors
/// [`PublishError::Invalid`] names the header that NATS cannot carry.
pub(super) fn check(message: &Message) -> Result<usize, PublishError> {
    if message.id.is_empty() && message.key.is_empty() && message.headers.is_empty() {
        return Ok(0);
    }
    let mut wire = BLOCK_BYTES;
    if !message.id.is_empty() {
        if !holds(message.id.as_bytes()) {
            return Err(invalid("the id holds a line break or begins or ends with a space"));
        }
        wire += line(ID, message.id.as_bytes().len());
    }
    if !message.key.is_empty() {
        wire += if holds(&message.key) {
            line(KEY, message.key.len())
        } else {
            line(KEY_HEX, message.key.len() * 2)
        };
    }
    for (name, value) in &message.headers {
        let name_text = std::str::from_utf8(name).unwrap_or_default();
        if name_text.is_empty() || !name.iter().all(|b| b.is_ascii_graphic() && *b != b':') {
            return Err(invalid(&format!(
                "header name {:?} must be visible ASCII without a colon",
                String::from_utf8_lossy(name)
            )));
        }
        if [ID, KEY, KEY_HEX].iter().any(|own| own.eq_ignore_ascii_case(name_text)) {
            return Err(invalid(&format!("header {name_text} is used by the backend itself")));
        }
        if !holds(value) {
            return Err(invalid(&format!(
                "value of header {name_text} must be UTF-8 without a line break and without space around it"
            )));
        }
        wire += line(name_text, value.len());
    }
    Ok(wire)
}

/// The header map of a message that passed [`check`]; `None` where no header is needed.
pub(super) fn build(message: &Message) -> Option<HeaderMap> {
    if message.id.is_empty() && message.key.is_empty() && message.headers.is_empty() {
        return None;
    }
    let mut map = HeaderMap::new();
    if !message.id.is_empty() {
        map.insert(NATS_MESSAGE_ID, message.id.as_str());
    }
    if !message.key.is_empty() {
        match std::str::from_utf8(&message.key) {
            Ok(text) if holds(&message.key) => map.insert(HeaderName::from_static(KEY), text),
            _ => map.insert(HeaderName::from_static(KEY_HEX), to_hex(&message.key).as_str()),
        }
    }
    for (name, value) in &message.headers {
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            map.append(name, value);
        }
    }
    Some(map)
}

/// The message that a consumer sees.
pub(super) fn read(headers: Option<&HeaderMap>, payload: Bytes) -> Message {
    let mut message = Message::new(payload);
    let Some(headers) = headers else { return message };
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let Some(first) = values.first() else { continue };
        if name == ID {
            message.id = MessageId::from(first.as_str());
        } else if name == KEY {
            message.key = Bytes::copy_from_slice(first.as_str().as_bytes());
        } else if name == KEY_HEX {
            message.key = from_hex(first.as_str());
        } else {
            let name = Bytes::copy_from_slice(name.as_bytes());
            for value in values {
                message.headers.push((name.clone(), Bytes::copy_from_slice(value.as_str().as_bytes())));
            }
        }
    }
    message
}

/// Whether a header value comes back as it went out.
fn holds(value: &[u8]) -> bool {
    let space = |b: Option<&u8>| b.is_some_and(u8::is_ascii_whitespace);
    std::str::from_utf8(value).is_ok()
        && !value.iter().any(|b| matches!(b, b'\r' | b'\n'))
        && !space(value.first())
        && !space(value.last())
}

fn line(name: &str, value_len: usize) -> usize {
    name.len() + value_len + 4
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Bytes {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect::<Vec<_>>()
        .into()
}

fn invalid(reason: &str) -> PublishError {
    PublishError::Invalid { backend: BACKEND, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(message: &Message) -> Message {
        check(message).unwrap();
        read(build(message).as_ref(), message.payload.clone())
    }

    #[test]
    fn everything_comes_back_as_it_went_out() {
        let mut message = Message::new("päyload").with_id("id-1 ü").with_key("k 1");
        message.headers = vec![(Bytes::from("A"), Bytes::from("1")), (Bytes::from("A"), Bytes::from("ß"))];
        assert_eq!(round_trip(&message), message);
        let binary = Message::new("").with_key(vec![0, 10, 13, 255]);
        assert_eq!(round_trip(&binary), binary);
        let spaced = Message::new("").with_key(" k ");
        assert_eq!(round_trip(&spaced), spaced);
    }

    #[test]
    fn a_bare_message_has_no_header_block() {
        assert!(build(&Message::new("x")).is_none());
        assert_eq!(check(&Message::new("x")), Ok(0));
    }

    #[test]
    fn what_a_header_cannot_carry_is_refused() {
        for (name, value) in [("a:b", "v"), ("", "v"), ("a b", "v"), ("a", "x\r\ny"), ("nats-msg-id", "v")] {
            let mut message = Message::new("x");
            message.headers = vec![(Bytes::from(name), Bytes::from(value))];
            assert!(matches!(check(&message), Err(PublishError::Invalid { .. })), "{name}: {value}");
        }
        assert!(check(&Message::new("x").with_id("a\nb")).is_err());
    }

    #[test]
    fn wire_length_counts_the_block() {
        // "NATS/1.0\r\n" "Nats-Msg-Id: 7\r\n" "\r\n"
        assert_eq!(check(&Message::new("x").with_id("7")), Ok(10 + 16 + 2));
    }
}
