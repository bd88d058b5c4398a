//! Real `clusternode` processes: started, killed, paused, asked over HTTP.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::ports::free_port;
use crate::support::{HEALTH, PATIENCE, ask_at};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A node with its own process, ports and directory; killed when dropped.
pub(crate) struct Process {
    pub(crate) number: usize,
    pub(crate) http: String,
    raft: String,
    child: Option<Child>,
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

impl Process {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, http: free_address(), raft: free_address(), child: None }
    }

    pub(crate) fn id(&self) -> String {
        format!("node-{}", self.number)
    }

    pub(crate) fn start(&mut self, directory: &Path, known: &[String]) {
        let millis = |time: Duration| time.as_millis().to_string();
        let log = directory.join(format!("{}.log", self.id()));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_clusternode"))
            .env_clear()
            .env("NODE_ID", self.id())
            .env("HTTP_ADDR", &self.http)
            .env("RAFT_ADDR", &self.raft)
            .env("DATA_DIR", directory.join(self.id()))
            .env("JOIN_ADDR", known.join(","))
            .env("CLUSTER_NAME", "storm")
            .env("PARTITION_COUNT", "64")
            .env("HEALTH_INTERVAL_MS", millis(HEALTH.interval))
            .env("HEALTH_TIMEOUT_MS", millis(HEALTH.timeout))
            .env("HEALTH_FAILURES", HEALTH.failure_threshold.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running process").id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// What a route answers, if it answers with 200.
    pub(crate) async fn get(&self, path: &str) -> Option<String> {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask_at(&self.http, "GET", path, "", ""));
        let (head, body) = asked.await.ok()?.ok()?;
        head.contains(" 200 ").then_some(body)
    }

    pub(crate) async fn json(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.get(path).await?).ok()
    }

    /// Whether a value was acknowledged.
    pub(crate) async fn put(&self, key: &str, value: &str) -> bool {
        let path = format!("/custom-data/{key}");
        let put = tokio::time::timeout(ANSWER_TIMEOUT, ask_at(&self.http, "PUT", &path, "", value));
        matches!(put.await, Ok(Ok((head, _))) if head.contains(" 200 "))
    }

    /// The ids it lists, and its whole assignment, once every node of that is listed.
    pub(crate) async fn view(&self) -> Option<(BTreeSet<String>, Value)> {
        let shown = self.json("/cluster").await?;
        let nodes = shown["cluster"]["nodes"].as_array()?;
        let ids = nodes.iter().filter_map(|node| node["id"].as_str().map(str::to_owned)).collect();
        Some((ids, shown["cluster"]["partition_map"]["partitions"].clone()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Each partition with min(3, members) distinct members in charge.
fn whole(ids: &BTreeSet<String>, partitions: &Value) -> bool {
    let Some(partitions) = partitions.as_object().filter(|partitions| partitions.len() == 64) else {
        return false;
    };
    partitions.values().all(|partition| {
        let replicas = partition["replica_nodes"].as_array().into_iter().flatten();
        let nodes: BTreeSet<_> =
            replicas.chain([&partition["primary_node"]]).filter_map(Value::as_str).collect();
        let count = 1 + partition["replica_nodes"].as_array().map_or(0, Vec::len);
        nodes.len() == count && count == ids.len().min(3) && nodes.iter().all(|node| ids.contains(*node))
    })
}

/// The end of a node's log.
fn last_words(id: &str, directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join(format!("{id}.log"))).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    format!("{id}:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// Waits until all running nodes show exactly the running ones, with the same whole assignment.
pub(crate) async fn agree(nodes: &[Process], directory: &Path) -> Duration {
    let began = Instant::now();
    let wanted: BTreeSet<_> = nodes.iter().filter(|node| node.runs()).map(Process::id).collect();
    loop {
        let mut views = Vec::new();
        for node in nodes.iter().filter(|node| node.runs()) {
            views.push(node.view().await);
        }
        let first = views[0].as_ref().filter(|(ids, partitions)| *ids == wanted && whole(ids, partitions));
        if first.is_some() && views.iter().all(|view| view.as_ref() == first) {
            return began.elapsed();
        }
        if began.elapsed() > PATIENCE * 2 {
            let shown: Vec<_> = views.into_iter().map(|view| view.map(|(ids, _)| ids)).collect();
            let logs: Vec<_> = nodes.iter().map(|node| last_words(&node.id(), directory)).collect();
            panic!("no agreement on {wanted:?}: {shown:?}\n{}", logs.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
