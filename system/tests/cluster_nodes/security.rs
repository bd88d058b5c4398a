//! TLS on both ports, members' certificates, and what stays closed without them.

use std::{path::Path, sync::Arc};

use queuebench_system::cluster::{ClusterKit, Options, tls::TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{ask_at, ask_on, options, until};

/// An authority and one certificate for this host, in files.
fn certificates(directory: &Path) -> TlsOptions {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsOptions {
        certificates: write("node.pem", certificate.pem()),
        key: write("node.key", key.serialize_pem()),
        authority: write("authority.pem", authority.pem()),
        require_client_certificates: true,
    }
}

/// A client that trusts the authority, with a member's certificate or without.
fn connector(tls: &TlsOptions, certified: bool) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if certified {
        let chain = vec![CertificateDer::from_pem_file(&tls.certificates).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&tls.key).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    TlsConnector::from(Arc::new(config))
}

async fn status(tls: &TlsConnector, address: &str, method: &str, path: &str, headers: &str) -> String {
    let tcp = TcpStream::connect(address).await.unwrap();
    let stream = tls.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await.unwrap();
    let (head, _) = ask_on(stream, address, method, path, headers, "{}").await.unwrap();
    head.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_certificates_form_a_cluster_and_others_stay_out() {
    let directory = tempfile::tempdir().unwrap();
    let tls = certificates(directory.path());
    let with = |number: u32, known: &[&ClusterKit]| Options {
        tls: Some(tls.clone()),
        replication_factor: 2,
        ..options(number, directory.path(), known)
    };
    let first = ClusterKit::start(with(1, &[])).await.unwrap();
    let second = ClusterKit::start(with(2, &[&first])).await.unwrap();
    until("two members with partitions", || {
        [&first, &second].iter().all(|kit| kit.topology().partition_count() > 0)
    })
    .await;
    second.set_custom_data("k", "v").await.unwrap();
    until("the value on both", || first.custom_data("k").is_ok()).await;
    let address = first.node().http_addr();
    let (member, stranger) = (connector(&tls, true), connector(&tls, false));
    for (method, path) in [
        ("POST", "/join"),
        ("POST", "/remove-node"),
        ("POST", "/rebalance"),
        ("GET", "/custom-data/k"),
        ("GET", "/internal/listed?id=x"),
        ("POST", "/internal/change"),
    ] {
        assert_eq!(status(&stranger, &address, method, path, "").await, "401", "{method} {path}");
        assert_ne!(status(&member, &address, method, path, "").await, "401", "{method} {path}");
    }
    for path in ["/health", "/ready", "/cluster"] {
        assert_eq!(status(&stranger, &address, "GET", path, "").await, "200", "{path}");
    }
    let raft = first.read(|state| state.members()[first.node_id()].member.raft_addr.clone());
    assert_eq!(status(&stranger, &raft, "POST", "/raft/stream", "").await, "401");
    assert_eq!(status(&member, &raft, "POST", "/raft/stream", "").await, "400", "not an upgrade");
    let plain = ask_at(&address, "GET", "/health", "", "").await;
    assert!(plain.is_err() || !plain.unwrap().0.contains(" 200 "), "nothing is answered without TLS");
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_replicates_without_the_secret_and_reads_can_be_closed_too() {
    let directory = tempfile::tempdir().unwrap();
    let with = |number: u32, secret: &str, known: &[&ClusterKit]| Options {
        shared_secret: Some(secret.to_owned()),
        protect_reads: true,
        replication_factor: 1,
        ..options(number, directory.path(), known)
    };
    let first = ClusterKit::start(with(1, "s3cret", &[])).await.unwrap();
    until("a cluster of one", || first.topology().partition_count() > 0).await;
    let address = first.node().http_addr();
    let status = async |address: &str, method: &str, path: &str, headers: &str| {
        let (head, _) = ask_at(address, method, path, headers, "").await.unwrap();
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let right = "authorization: Bearer s3cret\r\n";
    for path in ["/cluster", "/nodes", "/partitions", "/metrics", "/consensus/stats", "/partitions/key?key=a"]
    {
        assert_eq!(status(&address, "GET", path, "").await, "401", "{path}");
        assert_eq!(status(&address, "GET", path, right).await, "200", "{path}");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(status(&address, "GET", path, "").await, "200", "{path}");
    }
    let raft = first.read(|state| state.members()[first.node_id()].member.raft_addr.clone());
    assert_eq!(status(&raft, "POST", "/raft/stream", "").await, "401");
    assert_eq!(status(&raft, "POST", "/raft/stream", right).await, "400", "not an upgrade");
    let stranger = ClusterKit::start(with(2, "other", &[&first])).await.unwrap();
    let member = ClusterKit::start(with(3, "s3cret", &[&first])).await.unwrap();
    until("the one with the secret is in", || first.read(|state| state.members().len()) == 2).await;
    assert!(first.read(|state| !state.members().contains_key(stranger.node_id())));
    for kit in [stranger, member, first] {
        kit.stop().await;
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsOptions { key: "/nonexistent/node.key".into(), ..certificates(directory.path()) };
    let error = ClusterKit::start(Options { tls: Some(tls), ..options(1, directory.path(), &[]) });
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/node.key"), "{error}");
}
