//! What the three HTTP services share: listening, reading bodies, answering, counting.
//!
//! Built on hyper's HTTP/1.1 connection directly: a request costs one task wake-up and no boxed future.

pub(crate) mod body;
pub(crate) mod io;
pub(crate) mod listener;
pub(crate) mod metrics;
pub(crate) mod respond;
pub(crate) mod tls;
