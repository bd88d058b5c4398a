//! The JSON that travels: what clients post to the ingest service and what goes on to the processor, to NATS
//! and to Kafka.
//!
//! Reading is as lenient as existing clients expect: field names in any case, unknown fields and bytes after
//! the first value ignored, `null` for "nothing". Memory is bounded by the size of the body; nothing is
//! recursive, since unknown values are skipped by serde_json under its own depth limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Free labels, sorted by name; of two equal names the later one counts.
pub type Metadata<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// A body that is not what it should be; the reason is for logs and never quotes the content.
#[derive(Debug, thiserror::Error)]
#[error("body is not a valid {what}: line {line}, column {column}")]
pub struct WireError {
    what: &'static str,
    line: usize,
    column: usize,
}

/// What a client posts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IngestRequest<'a> {
    /// Origin of the record.
    pub source: Cow<'a, str>,
    /// Its payload, taken as UTF-8 bytes.
    pub data: Cow<'a, str>,
    /// Labels. Scalars of any type are kept as their JSON text, `null` as the empty text.
    pub metadata: Metadata<'a>,
}

impl<'a> IngestRequest<'a> {
    /// Reads the first JSON value of `body`.
    ///
    /// # Errors
    /// When it is neither an object of the right types nor `null`.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        first_value("ingest request", body)
    }
}

/// One message between the services and in a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataMessage {
    /// A random UUID when the pipeline made it; anything, even nothing, when a client did.
    pub id: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// Origin of the record.
    pub source: String,
    /// The payload, decoded.
    pub payload: Vec<u8>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
}

impl DataMessage {
    /// Reads the first JSON value of `body`.
    ///
    /// # Errors
    /// When it is neither an object of the right types nor `null`, or the payload is not standard base64.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        first_value("data message", body)
    }

    /// Appends the wire form.
    pub fn write(&self, into: &mut Vec<u8>) {
        let metadata = self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        write_message(into, &self.id, self.timestamp, &self.source, &self.payload, metadata);
    }
}

/// Appends the wire form of a message given by its parts; empty fields are left out.
pub fn write_message<'m>(
    into: &mut Vec<u8>,
    id: &str,
    timestamp: i64,
    source: &str,
    payload: &[u8],
    metadata: impl ExactSizeIterator<Item = (&'m str, &'m str)>,
) {
    into.push(b'{');
    let start = into.len();
    if !id.is_empty() {
        field(into, start, "id");
        text(into, id);
    }
    if timestamp != 0 {
        field(into, start, "timestamp");
        // Writing to a Vec cannot fail.
        let _ = std::io::Write::write_fmt(into, format_args!("{timestamp}"));
    }
    if !source.is_empty() {
        field(into, start, "source");
        text(into, source);
    }
    if !payload.is_empty() {
        field(into, start, "payload");
        into.push(b'"');
        let at = into.len();
        into.resize(at + payload.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(payload, &mut into[at..]);
        debug_assert_eq!(written, Ok(into.len() - at));
        into.push(b'"');
    }
    if metadata.len() > 0 {
        field(into, start, "metadata");
        into.push(b'{');
        for (index, (name, value)) in metadata.enumerate() {
            if index > 0 {
                into.push(b',');
            }
            text(into, name);
            into.push(b':');
            text(into, value);
        }
        into.push(b'}');
    }
    into.push(b'}');
}

fn field(into: &mut Vec<u8>, start: usize, name: &str) {
    if into.len() > start {
        into.push(b',');
    }
    into.push(b'"');
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b"\":");
}

fn text(into: &mut Vec<u8>, value: &str) {
    // Text that needs no escape, which is nearly all, is copied as it is.
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        into.push(b'"');
        into.extend_from_slice(value.as_bytes());
        into.push(b'"');
    } else {
        // Writing text to a Vec cannot fail.
        let _ = serde_json::to_writer(into, value);
    }
}

fn first_value<'a, T: Deserialize<'a> + Default>(what: &'static str, body: &'a [u8]) -> Result<T, WireError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Option::<T>::deserialize(&mut deserializer).map(Option::unwrap_or_default).map_err(|error| WireError {
        what,
        line: error.line(),
        column: error.column(),
    })
}

/// Which known field a name means, in any case.
fn known<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    names.iter().find(|known| known.eq_ignore_ascii_case(name)).copied()
}

impl<'de> Deserialize<'de> for IngestRequest<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = IngestRequest<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut request = IngestRequest::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match known(&name.0, &["source", "data", "metadata"]) {
                        Some("source") => set(&mut request.source, map.next_value::<Option<Text<'de>>>()?),
                        Some("data") => set(&mut request.data, map.next_value::<Option<Text<'de>>>()?),
                        Some(_) => match map.next_value::<Option<Labels<'de>>>()? {
                            Some(labels) => request.metadata.extend(labels.0),
                            None => request.metadata.clear(),
                        },
                        None => drop(map.next_value::<de::IgnoredAny>()?),
                    }
                }
                Ok(request)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// `null` leaves a field as it was.
fn set<'a>(field: &mut Cow<'a, str>, value: Option<Text<'a>>) {
    if let Some(value) = value {
        *field = value.0;
    }
}

impl<'de> Deserialize<'de> for DataMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = DataMessage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut message = DataMessage::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match known(&name.0, &["id", "timestamp", "source", "payload", "metadata"]) {
                        Some("id") => message.id = map.next_value::<Option<String>>()?.unwrap_or_default(),
                        Some("timestamp") => {
                            message.timestamp = map.next_value::<Option<i64>>()?.unwrap_or_default();
                        }
                        Some("source") => {
                            message.source = map.next_value::<Option<String>>()?.unwrap_or_default();
                        }
                        Some("payload") => {
                            message.payload = match map.next_value::<Option<Text<'de>>>()? {
                                Some(text) => decode(&text.0).map_err(de::Error::custom)?,
                                None => Vec::new(),
                            };
                        }
                        Some(_) => {
                            let labels = map.next_value::<Option<BTreeMap<String, Option<String>>>>()?;
                            message.metadata = labels
                                .unwrap_or_default()
                                .into_iter()
                                .map(|(name, value)| (name, value.unwrap_or_default()))
                                .collect();
                        }
                        None => drop(map.next_value::<de::IgnoredAny>()?),
                    }
                }
                Ok(message)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Standard base64 with padding; line ends inside are ignored, as existing clients may wrap lines.
fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    if text.bytes().any(|byte| byte == b'\r' || byte == b'\n') {
        let joined: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        return STANDARD.decode(joined);
    }
    STANDARD.decode(text)
}

/// Text that borrows from the body where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// Labels whose values may be any scalar.
struct Labels<'a>(Metadata<'a>);

impl<'de> Deserialize<'de> for Labels<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalars;
        impl<'de> Visitor<'de> for Scalars {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of scalars")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Metadata::new();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    let raw = map.next_value::<&'de RawValue>()?.get();
                    let value = match raw.as_bytes().first() {
                        Some(b'"') => serde_json::from_str::<Text<'de>>(raw).map_err(de::Error::custom)?.0,
                        Some(b'{' | b'[') => return Err(de::Error::custom("a label must be a scalar")),
                        _ if raw == "null" => Cow::Borrowed(""),
                        _ => Cow::Borrowed(raw),
                    };
                    labels.insert(name.0, value);
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Scalars)
    }
}

#[cfg(test)]
mod tests;
