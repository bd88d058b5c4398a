//! A pipeline whose edge speaks TLS, and connections to it.

use std::path::Path;
use std::sync::Arc;

use queuebench_system::pipeline::config::TlsConfig;
use queuebench_system::pipeline::embedded::{self, Embedded};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::settings;

/// A pipeline in this process with a certificate of its own for `localhost`.
pub(crate) struct TlsEdge {
    pub(crate) pipeline: Embedded,
    roots: Arc<rustls::RootCertStore>,
}

impl TlsEdge {
    /// Keeps certificate and key in `folder`.
    pub(crate) async fn start(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (certificates, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&certificates, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut settings = settings();
        settings.gateway.tls = Some(TlsConfig { port: 0, certificates, key });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self { pipeline: embedded::start(settings).await.unwrap(), roots: Arc::new(roots) }
    }

    /// A connection that offers one protocol.
    pub(crate) async fn connect(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        client.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.pipeline.gateway.tls_address().unwrap()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
    }
}
