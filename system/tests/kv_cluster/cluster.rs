//! Starts, kills, pauses and asks a cluster of node processes.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use queuebench_system::kv::client::{HttpAnswer, HttpClient, HttpError};
use serde_json::Value;
use tempfile::TempDir;

use crate::link::Link;
use crate::ports::free_port;

/// Longest wait for a cluster to become whole again. Far above what it takes on an idle machine: a test must
/// tell a cluster that does not heal from one that gets no processor.
pub(crate) const HEAL: Duration = Duration::from_secs(60);

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) url: String,
    port: u16,
    founders: Option<Vec<String>>,
    process: Option<Child>,
}

/// Clusters run one after the other: several at once would only measure how busy the machine is.
pub(crate) static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Cluster {
    _turn: tokio::sync::MutexGuard<'static, ()>,
    pub(crate) members: Vec<Member>,
    urls: Vec<String>,
    pub(crate) client: HttpClient,
    dir: TempDir,
    flags: Vec<String>,
    /// Between each node and each peer, if links can be cut.
    links: Vec<Vec<Link>>,
}

impl Cluster {
    /// `size` founders with a leader.
    pub(crate) async fn start(size: usize, flags: &[&str]) -> Self {
        Self::start_linked(size, flags, false).await
    }

    /// The same with every link between two nodes through a proxy that can cut it.
    pub(crate) async fn start_with_links(size: usize, flags: &[&str]) -> Self {
        Self::start_linked(size, flags, true).await
    }

    async fn start_linked(size: usize, flags: &[&str], linked: bool) -> Self {
        let mut cluster = Self {
            _turn: ONE.lock().await,
            members: Vec::new(),
            urls: Vec::new(),
            client: HttpClient::new(),
            dir: TempDir::new().unwrap(),
            flags: flags.iter().map(ToString::to_string).collect(),
            links: Vec::new(),
        };
        let ports: Vec<u16> = (0..size).map(|_| free_port()).collect();
        let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        cluster.urls.clone_from(&urls);
        if linked {
            for _ in 0..size {
                let to = ports.iter().map(|port| Link::open(*port));
                cluster.links.push(futures_util::future::join_all(to).await);
            }
        }
        for (index, port) in ports.iter().enumerate() {
            cluster.members.push(Member {
                name: format!("kv{}", index + 1),
                url: urls[index].clone(),
                port: *port,
                founders: Some(urls.clone()),
                process: None,
            });
            cluster.spawn(index);
        }
        cluster.wait_for_leader(&(0..size).collect::<Vec<_>>()).await;
        cluster
    }

    /// Starts a node that waits to be added.
    pub(crate) async fn start_joiner(&mut self, name: &str) -> usize {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        self.members.push(Member { name: name.into(), url, port, founders: None, process: None });
        let index = self.members.len() - 1;
        self.spawn(index);
        self.until("the joiner serves", async |cluster| {
            cluster.get(index, "/healthz").await.is_ok().then_some(())
        })
        .await;
        index
    }

    pub(crate) fn spawn(&mut self, index: usize) {
        let member = &mut self.members[index];
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
        command
            .arg(format!("--id={}", member.name))
            .arg(format!("--addr=127.0.0.1:{}", member.port))
            .arg(format!("--advertise={}", member.url))
            .arg(format!("--data={}", self.dir.path().join(&member.name).display()))
            .arg("--segment-bytes=1048576")
            .args(&self.flags);
        for (url, link) in self.urls.iter().zip(self.links.get(index).into_iter().flatten()) {
            if *url != member.url {
                command.arg(format!("--detour={url}=http://127.0.0.1:{}", link.port));
            }
        }
        match &member.founders {
            Some(urls) => {
                let peers: Vec<_> = urls.iter().filter(|url| **url != member.url).cloned().collect();
                if !peers.is_empty() {
                    command.arg(format!("--peers={}", peers.join(",")));
                }
            }
            None => {
                command.arg("--join");
            }
        }
        let log = self.dir.path().join(format!("{}.log", member.name));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        member.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Cuts or heals every link between `apart` and the others, in both directions.
    pub(crate) fn part(&self, apart: usize, cut: bool) {
        for other in (0..self.links.len()).filter(|other| *other != apart) {
            self.links[apart][other].set(cut);
            self.links[other][apart].set(cut);
        }
    }

    /// Connections that a cut has silenced so far.
    pub(crate) fn silenced(&self) -> u64 {
        self.links.iter().flatten().map(Link::silenced).sum()
    }

    pub(crate) fn signal(&self, index: usize, signal: &str) {
        let pid = self.members[index].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid).status().unwrap().success());
    }

    /// SIGKILL, and the process is gone on return.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut process = self.members[index].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Waits for a process that ends by itself.
    pub(crate) fn ended(&mut self, index: usize) -> Option<std::process::ExitStatus> {
        self.members[index].process.as_mut().unwrap().try_wait().unwrap()
    }

    pub(crate) fn data_dir(&self, index: usize) -> std::path::PathBuf {
        self.dir.path().join(&self.members[index].name)
    }

    pub(crate) fn log_of(&self, index: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{}.log", self.members[index].name))).unwrap()
    }

    pub(crate) async fn ask(
        &self,
        index: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<HttpAnswer, HttpError> {
        let url = format!("{}{path}", self.members[index].url);
        self.client.send(method, &url, headers, body.into(), Duration::from_secs(2)).await
    }

    pub(crate) async fn get(&self, index: usize, path: &str) -> Result<HttpAnswer, HttpError> {
        self.ask(index, Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn json(&self, index: usize, path: &str) -> Option<Value> {
        let answer = self.get(index, path).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// Sends a write to whoever of `members` leads, again while no one does.
    pub(crate) async fn write_at(
        &self,
        members: &[usize],
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> HttpAnswer {
        let body = body.into();
        self.until("a write is done", async |cluster| {
            let leader = cluster.wait_for_leader(members).await;
            let url = format!("{}{path}", cluster.members[leader].url);
            let patience = Duration::from_secs(10);
            let answer = cluster.client.send(method.clone(), &url, &[], body.clone(), patience).await.ok()?;
            let again = [
                StatusCode::TEMPORARY_REDIRECT,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            (!again.contains(&answer.status)).then_some(answer)
        })
        .await
    }

    /// The same at any running member.
    pub(crate) async fn write(&self, method: Method, path: &str, body: impl Into<Bytes>) -> HttpAnswer {
        self.write_at(&self.running(), method, path, body).await
    }

    fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].process.is_some()).collect()
    }

    /// Asks again until there is an answer; fails after [`HEAL`].
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = ask(self).await {
                return found;
            }
            if began.elapsed() > HEAL {
                for index in 0..self.members.len() {
                    eprintln!("--- {} ---\n{}", self.members[index].name, self.log_of(index));
                }
                panic!("not within {HEAL:?}: {what}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all of `members` name the same leader, and answers which it is.
    pub(crate) async fn wait_for_leader(&self, members: &[usize]) -> usize {
        self.until("a leader that all know", async |cluster| {
            let mut known = None;
            for &index in members {
                let answer = cluster.json(index, "/raft/leader").await?;
                let url = answer["url"].as_str()?.to_owned();
                if known.get_or_insert(url.clone()) != &url {
                    return None;
                }
            }
            let url = known?;
            let leader = cluster.members.iter().position(|member| member.url == url)?;
            members.contains(&leader).then_some(leader)
        })
        .await
    }

    pub(crate) async fn leader(&self) -> usize {
        self.wait_for_leader(&self.running()).await
    }

    /// Waits until all running members name the same leader and `back` has applied all that was committed when
    /// they did.
    pub(crate) async fn wait_until_whole(&self, back: usize) {
        let leader = self.leader().await;
        let committed = self
            .until("the leader tells what is committed", async |cluster| {
                cluster.json(leader, "/raft/state").await?["commit_index"].as_u64()
            })
            .await;
        self.until("the member that was gone caught up", async |cluster| {
            let state = cluster.json(back, "/raft/state").await?;
            (state["last_applied"].as_u64()? >= committed).then_some(())
        })
        .await;
    }

    /// Waits until all running members have the same state; answers revision and hash.
    pub(crate) async fn wait_for_equal_state(&self) -> (i64, u64) {
        self.until("all members have the same state", async |cluster| {
            let mut known = None;
            for (index, member) in cluster.members.iter().enumerate() {
                if member.process.is_none() {
                    continue;
                }
                let answer = cluster.json(index, "/raft/hash").await?;
                let state = (answer["revision"].as_i64()?, answer["hash"].as_u64()?);
                if *known.get_or_insert(state) != state {
                    return None;
                }
            }
            known
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
