//! Starting nodes, asking them over HTTP, and waiting for what must come about.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use queuebench_system::cluster::{ClusterKit, Options, health::HealthSettings};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const HEALTH: HealthSettings = HealthSettings {
    interval: Duration::from_millis(400),
    timeout: Duration::from_millis(400),
    failure_threshold: 3,
};

pub(crate) fn options(number: u32, directory: &Path, known: &[&ClusterKit]) -> Options {
    Options {
        raft_addr: "127.0.0.1:0".to_owned(),
        data_dir: directory.join(format!("node-{number}")),
        cluster_name: "test".to_owned(),
        join_addrs: known.iter().map(|kit| kit.node().http_addr()).collect(),
        remove_silent: true,
        health: HEALTH,
        services: [("kv".to_owned(), format!(":{}", 9_080 + number))].into(),
        ..Options::new(format!("node-{number}"), "127.0.0.1:0")
    }
}

pub(crate) async fn start(number: u32, directory: &Path, known: &[&ClusterKit]) -> ClusterKit {
    ClusterKit::start(options(number, directory, known)).await.unwrap()
}

/// A node on the directory of one that was stopped, once that has let go of it.
pub(crate) async fn start_again(number: u32, directory: &Path, known: &ClusterKit) -> ClusterKit {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ClusterKit::start(options(number, directory, &[known])).await {
            Ok(kit) => return kit,
            Err(error) => {
                assert!(error.to_string().contains("in use") && Instant::now() < deadline, "{error}")
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Three nodes with all partitions assigned.
pub(crate) async fn three(directory: &Path) -> [ClusterKit; 3] {
    let first = start(1, directory, &[]).await;
    let second = start(2, directory, &[&first]).await;
    // Through a node that may not lead.
    let third = start(3, directory, &[&second]).await;
    let nodes = [first, second, third];
    until("three members with partitions", || nodes.iter().all(|kit| agreed(kit, 3))).await;
    nodes
}

/// So many members, and a full assignment to them.
pub(crate) fn agreed(kit: &ClusterKit, members: usize) -> bool {
    kit.read(|state| {
        let placed = |node| state.members().contains_key(node);
        state.members().len() == members
            && state.rebalance_due().is_none()
            && state.assignment().is_some_and(|assignment| {
                assignment.iter().all(|(_, placement)| {
                    placement.nodes().len() == members.min(3) && placement.nodes().iter().all(placed)
                })
            })
    })
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, async || holds()).await;
}

/// The same for what has to be asked for.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status line with headers, and body.
pub(crate) async fn ask(
    kit: &ClusterKit,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (String, String) {
    ask_at(&kit.node().http_addr(), method, path, headers, body).await.unwrap()
}

/// The same of a process, which may not answer.
pub(crate) async fn ask_at(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(String, String)> {
    let stream = TcpStream::connect(address).await?;
    ask_on(stream, address, method, path, headers, body).await
}

/// The same on a connection that is open.
pub(crate) async fn ask_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<(String, String)> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.to_lowercase(), body.to_owned()))
}

pub(crate) async fn get(kit: &ClusterKit, path: &str) -> serde_json::Value {
    let (head, body) = ask(kit, "GET", path, "", "").await;
    assert!(head.contains(" 200 "), "{path}: {head}\n{body}");
    assert!(head.contains("content-type: application/json"), "{path}: {head}");
    serde_json::from_str(&body).unwrap()
}
