//! What travels through a queue: an id, an optional key, a payload and headers.
//!
//! All parts are reference-counted byte ranges, so cloning a message (for a retry, or for the second child
//! of a composite) copies no payload.

use bytes::Bytes;

/// One message as a producer hands it over and a consumer gets it back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names this message among all others, so that a backend can drop a second copy (NATS `Nats-Msg-Id`,
    /// the composite's window). Empty: no identity, no deduplication.
    pub id: MessageId,
    /// Messages of one key keep their order where the backend promises order. Empty: no key.
    pub key: Bytes,
    /// The body; may be empty.
    pub payload: Bytes,
    /// Name and value pairs, carried by backends that have headers (NATS, Kafka).
    pub headers: Headers,
}

impl Message {
    /// A message with a payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// The same message under an id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<MessageId>) -> Self {
        self.id = id.into();
        self
    }

    /// The same message under a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = key.into();
        self
    }
}

/// A message's identity: UTF-8 text, cheap to clone. The empty id means "none".
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct MessageId(Bytes);

impl MessageId {
    /// An id whose text is already in a shared buffer.
    ///
    /// # Errors
    /// Returns the bytes when they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Bytes> {
        if std::str::from_utf8(&bytes).is_ok() { Ok(Self(bytes)) } else { Err(bytes) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Every constructor checked the bytes; an id that fails here would be a broken invariant.
        std::str::from_utf8(&self.0).expect("a message id is UTF-8 by construction")
    }

    /// The id as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the "no id" id.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Header names and values in the order in which they were added; empty headers own no memory.
pub type Headers = Vec<(Bytes, Bytes)>;
