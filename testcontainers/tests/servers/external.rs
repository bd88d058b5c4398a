//! Servers that somebody else runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use queuebench_testcontainers::{
    Backend, Credentials, External, FaultError, Provisioner, Running, StartError, StartOptions, Via, start,
};

use crate::common;

fn at(external: External) -> StartOptions {
    StartOptions { external: Some(external), ..common::options(Via::Auto) }
}

/// `owner` is met at `address` as an external server would be, and outlives that.
pub(crate) async fn is_met_and_left_alone(owner: &Running, address: &str) {
    let met = start(owner.backend(), at(External::at(address))).await.unwrap();
    assert_eq!(met.provisioner(), Provisioner::External);
    assert_eq!(met.address(), address);
    match owner.backend() {
        // Kafka states its cluster's format, which names the release without the patch.
        Backend::Kafka => {
            let (release, rest) = met.version().split_once(" (metadata.version ").unwrap();
            assert!(owner.version().starts_with(release), "{} {rest}", met.version());
        }
        _ => assert_eq!(met.version(), owner.version()),
    }
    assert!(met.pids().is_empty() && met.log_path().is_none());
    for refused in [met.kill().await, met.pause().await, met.resume().await, met.restart().await] {
        assert!(matches!(refused, Err(FaultError::External { .. })), "{refused:?}");
    }
    met.stop(common::STOP).await.unwrap();
    drop(met);
    assert!(common::is_listening(owner.address()));
}

#[tokio::test]
async fn an_external_nats_is_met_and_left_alone() {
    let Some(nats) = common::open(Backend::Nats, common::options(Via::Native)).await else { return };
    let address = nats.address().to_owned();
    is_met_and_left_alone(&nats, &address).await;
    is_met_and_left_alone(&nats, &format!("nats://{address}")).await;
    nats.stop(common::STOP).await.unwrap();
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_an_error_in_time() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for backend in Backend::ALL {
        let options = StartOptions { time_limit: Duration::from_secs(1), ..at(External::at(&free)) };
        let started = Instant::now();
        let error = start(backend, options).await.unwrap_err();
        assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&free), "{error}");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}

/// A nats-server that no code of ours has a hand in.
struct Foreign {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn foreign(args: &[&str]) -> Option<Foreign> {
    let program = common::nats_program().await?;
    let data = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(data.path())
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Some(Foreign { child, address: format!("127.0.0.1:{port}"), _data: data })
}

#[tokio::test]
async fn a_nats_without_jetstream_cannot_be_used() {
    let Some(foreign) = foreign(&[]).await else { return };
    let error = start(Backend::Nats, at(External::at(&foreign.address))).await.unwrap_err();
    assert!(matches!(error, StartError::Unsuitable { .. }), "{error}");
    assert!(error.to_string().contains("JetStream is not enabled"), "{error}");
}

#[tokio::test]
async fn credentials_decide_who_is_let_in() {
    let Some(foreign) = foreign(&["-js", "--user", "me", "--pass", "right"]).await else { return };
    let with = |password: &str| External {
        address: foreign.address.clone(),
        credentials: Credentials {
            user: Some("me".to_owned()),
            password: Some(password.to_owned()),
            ..Credentials::default()
        },
    };
    let met = start(Backend::Nats, at(with("right"))).await.unwrap();
    assert_eq!(met.external_access().unwrap().credentials.password.as_deref(), Some("right"));
    let options = StartOptions { time_limit: Duration::from_secs(3), ..at(with("wrong")) };
    let error = start(Backend::Nats, options).await.unwrap_err();
    assert!(error.to_string().contains("authorization"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}
