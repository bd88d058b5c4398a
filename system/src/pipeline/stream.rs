//! One persistent connection between two services that carries many requests at once.
//!
//! It begins as an HTTP/1.1 upgrade on the service's own port ([`PATH`], [`PROTOCOL`]); a service that does not
//! know it answers otherwise and is spoken to in plain HTTP. Requests and answers are frames with an id, so
//! answers may come in any order and one failed message fails alone. Frames that are ready at the same time
//! leave in one write: no timer, no added wait.
//!
//! Before a service stops it sends a farewell: the client opens no request after it, and what was sent before
//! is still answered.

pub(crate) mod frame;
pub(crate) mod lane;
pub(crate) mod outbox;
pub(crate) mod pending;
pub(crate) mod server;

/// Where a stream begins.
pub(crate) const PATH: &str = "/internal/v1/stream";
/// What the `Upgrade` header says.
pub(crate) const PROTOCOL: &str = "queuebench-stream/1";
/// Read and write buffers beyond this size are given back once they are empty.
const KEEP_BUFFER_BYTES: usize = 1 << 20;
