//! Where an HTTP service listens, and every bound it keeps against its clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::Env;

/// A listener and its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to bind; all interfaces by default.
    pub host: IpAddr,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// Connections at once; one more is answered 503 and closed.
    pub max_connections: usize,
    /// Connections at once from one address; 0 means no such bound.
    pub max_connections_per_client: usize,
    /// Requests in work at once; one more is answered 503.
    pub max_in_flight: usize,
    /// Bytes of request bodies in work at once; more is answered 503.
    pub max_in_flight_bytes: usize,
    /// Bytes of one request's body; more is answered 413.
    pub max_body_bytes: usize,
    /// Bytes of one request's head; more is answered 431. There may be 100 header lines.
    pub max_head_bytes: usize,
    /// How long a client may take for a request's head, and keep a connection without one.
    pub header_timeout_ms: u64,
    /// How long a client may take for a request's body; answered 408.
    pub body_timeout_ms: u64,
    /// How long a client may refuse to read its answers.
    pub write_timeout_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
            max_connections: 4_096,
            max_connections_per_client: 0,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 << 20,
            max_body_bytes: 1 << 20,
            max_head_bytes: 64 << 10,
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 10_000,
        }
    }
}

impl ServerConfig {
    /// A free port on the loopback interface, for tests and embedding.
    pub fn loopback() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), ..Self::default() }
    }

    pub(super) fn apply(&mut self, env: &Env, port: &str) {
        env.number(port, &mut self.port);
        env.number("BIND_HOST", &mut self.host);
        env.number("MAX_CONNECTIONS", &mut self.max_connections);
        env.number("MAX_CONNECTIONS_PER_CLIENT", &mut self.max_connections_per_client);
        env.number("MAX_IN_FLIGHT", &mut self.max_in_flight);
        env.number("MAX_IN_FLIGHT_BYTES", &mut self.max_in_flight_bytes);
        env.number("MAX_BODY_BYTES", &mut self.max_body_bytes);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }
}
