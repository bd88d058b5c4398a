//! Reads a certificate and its key for the TLS listener.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::pipeline::config::TlsConfig;

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(config: &TlsConfig) -> io::Result<Arc<ServerConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&config.certificates)
        .and_then(Iterator::collect)
        .map_err(|error| io::Error::other(format!("{}: {error}", config.certificates.display())))?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| io::Error::other(format!("{}: {error}", config.key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
