//! TLS and credentials.

use std::time::{Duration, Instant};

use queuebench_system::queue::nats::{Nats, NatsAuth, NatsConfig, NatsTls, Secret};
use queuebench_system::queue::{Publisher, Queue};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::publish;
use crate::server::Server;
use crate::sink::Sink;

/// A key pair made for this test.
const NKEY: &str = "UDZ76EEIFMZMJW62OJEXZC5Z4W3IFDVDKKUCLTTNYNG4IAD46IX3E6SP";
const NKEY_SEED: &str = "SUAISCQSNZFS4EDJGJMKNZDWL5QCOU3BC3IXDZOVYZ4X3QDAM5DWLX66GE";

async fn works(config: NatsConfig) {
    let queue = Nats::open(config).await.unwrap();
    let sink = Sink::new();
    let publisher = queue.publisher(sink.clone()).await.unwrap();
    publish(&publisher, 0..10).await;
    assert_eq!(publisher.flush(Duration::from_secs(10)).await, 0);
    assert_eq!(queue.statistics().acknowledged, 10);
}

#[tokio::test]
async fn a_password_is_needed_and_a_wrong_one_is_named_without_being_shown() {
    let Some(server) = Server::start("authorization { user: bench, password: right }") else { return };
    let with = |password: &str| NatsConfig {
        auth: Some(NatsAuth::UserPassword { user: "bench".to_owned(), password: Secret::new(password) }),
        ..server.config("AUTH")
    };
    works(with("right")).await;
    let begin = Instant::now();
    let error = Nats::open(with("wr0ng")).await.unwrap_err().to_string();
    assert!(error.contains("refused the log-in as user `bench`"), "{error}");
    assert!(!error.contains("wr0ng"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(3), "a wrong password must not be tried again");
    let error = Nats::open(server.config("AUTH")).await.unwrap_err().to_string();
    assert!(error.contains("refused the log-in as nobody"), "{error}");
    let shown = format!("{:?} {}", with("right"), serde_json::to_string(&with("right")).unwrap());
    assert!(!shown.contains("right"), "{shown}");
}

#[tokio::test]
async fn a_token_and_an_nkey_log_in() {
    let Some(server) = Server::start("authorization { token: t0ken }") else { return };
    let auth = Some(NatsAuth::Token(Secret::new("t0ken")));
    works(NatsConfig { auth, ..server.config("TOKEN") }).await;

    let Some(server) = Server::start(&format!("authorization {{ users: [ {{ nkey: {NKEY} }} ] }}")) else {
        return;
    };
    let auth = Some(NatsAuth::NkeySeed(Secret::new(NKEY_SEED)));
    works(NatsConfig { auth, ..server.config("NKEY") }).await;
}

#[tokio::test]
async fn a_credentials_file_that_is_missing_is_named() {
    let Some(server) = Server::start("") else { return };
    let auth = Some(NatsAuth::CredentialsFile(server.path("no.creds")));
    let error = Nats::open(NatsConfig { auth, ..server.config("CREDS") }).await.unwrap_err().to_string();
    assert!(error.contains("no.creds"), "{error}");
}

/// The server shows a certificate of our authority and asks for one of ours.
#[tokio::test]
async fn tls_in_both_directions() {
    let pki = tempfile::tempdir().unwrap();
    let file = |name: &str| pki.path().join(name);
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(file(name), ca.pem()).unwrap();
        ca
    };
    let ca = authority("ca.pem");
    let _stranger = authority("stranger.pem");
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &ca).unwrap();
        std::fs::write(file(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let block = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let Some(server) = Server::start(&block) else { return };
    let with = |ca: &str, own: bool| NatsConfig {
        servers: vec![format!("tls://127.0.0.1:{}", server.port)],
        tls: Some(NatsTls {
            ca_file: Some(file(ca)),
            cert_file: own.then(|| file("client.pem")),
            key_file: own.then(|| file("client.key")),
            handshake_first: false,
        }),
        connect_timeout_ms: 2_000,
        ..server.config("TLS")
    };
    works(with("ca.pem", true)).await;
    let error = Nats::open(with("stranger.pem", true)).await.unwrap_err().to_string();
    assert!(error.contains("no TLS with") && error.contains("check `tls`"), "{error}");
    assert!(Nats::open(with("ca.pem", false)).await.is_err(), "the server asks for a certificate");
    let half = NatsConfig {
        tls: Some(NatsTls { cert_file: Some(file("client.pem")), ..NatsTls::default() }),
        ..server.config("TLS")
    };
    let error = Nats::open(half).await.unwrap_err().to_string();
    assert!(error.contains("cert_file and key_file go together"), "{error}");
}
