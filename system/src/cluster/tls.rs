//! Who may talk to a node, and that nobody listens: TLS on both of its ports, members' certificates, and the
//! shared secret.
//!
//! Without TLS options connections are plain. With them every connection is TLS 1.2 or 1.3, servers are
//! checked against the cluster's certificate authority, and a client that shows a certificate must show one
//! of that authority; the probes and open routes ask for none. Handshakes are bounded: at most
//! [`HANDSHAKES_MAX`] at once on a port, [`HANDSHAKE_TIMEOUT`] each.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use http::{HeaderMap, header};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{error::StartError, options::Options};

/// Handshakes under way on one port; further connections wait in the listener's backlog.
pub const HANDSHAKES_MAX: usize = 256;

/// A handshake that takes longer is broken off.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// This node's certificate and those that lead to the authority. It must name the addresses others reach
    /// the node under, and be good for servers and clients.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signed the certificates of all members.
    pub authority: PathBuf,
    /// Whether joining, replication, administration and custom data ask for a member's certificate.
    pub require_client_certificates: bool,
}

/// What both sides of a connection need.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) client: Arc<ClientConfig>,
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| StartError::Tls(format!("{}: {error}", path.display())))?;
    if read.is_empty() {
        return Err(StartError::Tls(format!("{}: no certificate in it", path.display())));
    }
    Ok(read)
}

impl Tls {
    pub(super) fn load(options: &TlsOptions) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Tls(error.to_string());
        let chain = certificates(&options.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&options.key)
            .map_err(|error| StartError::Tls(format!("{}: {error}", options.key.display())))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&options.authority)? {
            roots.add(authority).map_err(|error| failed(&error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(&error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| failed(&error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| failed(&error))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), client: Arc::new(client) })
    }
}

/// A connection, plain or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    /// Showed a certificate of the cluster's authority.
    pub(super) certified: bool,
}

impl Connected<IncomingStream<'_, SecureListener>> for Remote {
    fn connect_info(stream: IncomingStream<'_, SecureListener>) -> Self {
        *stream.remote_addr()
    }
}

type Accepted = (Box<dyn Stream>, Remote);

/// Accepts connections, with a handshake if there is TLS.
pub(super) struct SecureListener {
    tcp: TcpListener,
    acceptor: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<Accepted>>,
}

impl SecureListener {
    pub(super) fn new(tcp: TcpListener, acceptor: Option<TlsAcceptor>) -> Self {
        Self { tcp, acceptor, handshakes: JoinSet::new() }
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream, address: SocketAddr) -> Option<Accepted> {
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await;
    match shaken {
        Ok(Ok(stream)) => {
            let certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
            Some((Box::new(stream), Remote { address, certified }))
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

impl axum::serve::Listener for SecureListener {
    type Io = Box<dyn Stream>;
    type Addr = Remote;

    async fn accept(&mut self) -> Accepted {
        loop {
            let (tcp, address) = tokio::select! {
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(accepted)) => return accepted,
                    _ => continue,
                },
                accepted = self.tcp.accept(), if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, most likely: the connections that end give some back.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            // Small answers must not wait for a delayed acknowledgement; without it they are only slower.
            let _ = tcp.set_nodelay(true);
            match &self.acceptor {
                None => return (Box::new(tcp), Remote { address, certified: false }),
                Some(acceptor) => drop(self.handshakes.spawn(handshake(acceptor.clone(), tcp, address))),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Remote> {
        self.tcp.local_addr().map(|address| Remote { address, certified: false })
    }
}

/// Whether a request may join, replicate, administer or see custom data: with the secret or a certificate,
/// whichever of them the node asks for; with neither configured, always.
pub(super) fn authorized(options: &Options, remote: Option<Remote>, headers: &HeaderMap) -> bool {
    let by_certificate = options.tls.as_ref().is_some_and(|tls| tls.require_client_certificates);
    if by_certificate && remote.is_some_and(|remote| remote.certified) {
        return true;
    }
    let Some(secret) = &options.shared_secret else { return !by_certificate };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    same(given.as_bytes(), secret.as_bytes())
}

/// Compares without telling by its time how much is right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (given, wanted) = (Sha256::digest(given), Sha256::digest(wanted));
    given.iter().zip(&wanted).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::{Remote, TlsOptions, authorized};
    use crate::cluster::options::Options;

    fn tls() -> TlsOptions {
        TlsOptions {
            certificates: "c".into(),
            key: "k".into(),
            authority: "a".into(),
            require_client_certificates: true,
        }
    }

    #[test]
    fn secret_or_certificate_let_in_whichever_is_asked_for() {
        let remote = |certified| Some(Remote { address: "127.0.0.1:1".parse().unwrap(), certified });
        let headers = |text: &str| HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
        let open = Options::default();
        assert!(authorized(&open, remote(false), &HeaderMap::new()));
        let secret = Options { shared_secret: Some("s".to_owned()), ..Options::default() };
        assert!(!authorized(&secret, remote(true), &HeaderMap::new()));
        assert!(!authorized(&secret, remote(false), &headers("Bearer t")));
        assert!(!authorized(&secret, remote(false), &headers("s")));
        assert!(authorized(&secret, remote(false), &headers("Bearer s")));
        let certificate = Options { tls: Some(tls()), ..Options::default() };
        assert!(!authorized(&certificate, remote(false), &headers("Bearer ")));
        assert!(!authorized(&certificate, None, &HeaderMap::new()));
        assert!(authorized(&certificate, remote(true), &HeaderMap::new()));
        let both = Options { tls: Some(tls()), ..secret };
        assert!(authorized(&both, remote(true), &HeaderMap::new()));
        assert!(authorized(&both, remote(false), &headers("Bearer s")));
        assert!(!authorized(&both, remote(false), &HeaderMap::new()));
        let encrypted = TlsOptions { require_client_certificates: false, ..tls() };
        let only_encrypted = Options { tls: Some(encrypted), ..Options::default() };
        assert!(authorized(&only_encrypted, remote(false), &HeaderMap::new()));
    }
}
