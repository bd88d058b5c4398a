//! Is it ready? Asked in the server's own protocol, by a client like the ones that follow.
//!
//! An open port says little (a container engine's proxy accepts before the server does), and log lines
//! change between versions. The probe also tells our server from a stranger on the same port: it compares
//! the name (NATS) or cluster id (Kafka) that the server states with the one it was given.

mod etcd;
mod kafka;
mod kv;
mod nats;

use std::time::Duration;

use crate::backend::Backend;
use crate::external::Credentials;

/// What a ready server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Its version, where the protocol carries it.
    pub(crate) version: Option<String>,
}

/// Why it is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// Not yet; the last attempt said this.
    Yet(String),
    /// Nor will it be: a server answers and cannot be used.
    Never(String),
}

/// Whom the probe expects to meet.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) backend: Backend,
    pub(crate) address: &'a str,
    /// The name that our server was given; none for an external one.
    pub(crate) identity: Option<&'a str>,
    pub(crate) credentials: &'a Credentials,
}

/// Asks until the server is ready, it is clear that it never will be, or `limit` is over.
pub(crate) async fn until_ready(target: &Target<'_>, limit: Duration) -> Result<Ready, NotReady> {
    match target.backend {
        Backend::Nats => nats::until_ready(target, limit).await,
        Backend::Kafka => kafka::until_ready(target, limit).await,
        Backend::Etcd => etcd::until_ready(target, limit).await,
        Backend::Kv => kv::until_ready(target, limit).await,
    }
}
