//! How a node reaches its peers: plain or with TLS, and with what it shows them of itself.
//!
//! A peer's URL says which: `https://` needs TLS settings and is refused without them. The caller bounds the
//! time a connection may take.

use std::{fmt, io, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::{Connection, WireError};

/// What connections to peers are opened with; by default plain, without a secret.
#[derive(Clone, Default)]
pub struct Dial {
    tls: Option<TlsConnector>,
    authorization: Option<Arc<str>>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tls, secret) = (self.tls.is_some(), self.authorization.is_some());
        f.debug_struct("Dial").field("tls", &tls).field("secret", &secret).finish()
    }
}

impl Dial {
    /// With TLS as configured, and a secret that is sent as a bearer token.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientConfig>>, secret: Option<&str>) -> Self {
        let authorization = secret.map(|secret| format!("authorization: Bearer {secret}\r\n").into());
        Self { tls: tls.map(TlsConnector::from), authorization }
    }

    pub(crate) async fn open(&self, url: &str) -> Result<Connection, WireError> {
        let parsed = url.split_once("://").and_then(|(scheme, rest)| {
            let address = rest.split('/').next().filter(|address| address.contains(':'))?;
            matches!(scheme, "http" | "https").then_some((scheme == "https", address))
        });
        let (encrypted, address) = parsed.ok_or_else(|| WireError::Url(url.into()))?;
        let header = self.authorization.as_deref().unwrap_or_default();
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        if !encrypted {
            let (source, sink) = tcp.into_split();
            return Connection::upgrade(source, sink, address, header).await;
        }
        let tls = self.tls.as_ref().ok_or_else(|| WireError::Url(url.into()))?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let (source, sink) = tokio::io::split(tls.connect(name, tcp).await?);
        Connection::upgrade(source, sink, address, header).await
    }
}
