//! The clients: a plain one that asks any node, and smart ones that look up where a key lives.
//!
//! What a client reports as acknowledged is what it wrote into the file of acknowledged keys, and nothing
//! else; a write without a clear answer is left out and counted as such.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io::Write,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use queuebench_system::cluster::placement::key_hash;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Common, Mode,
    http::{Http, escape, kv_url},
    store::now,
};

/// Copies that an asynchronous client still sends after its last write.
const BACKGROUND_MAX: usize = 256;
/// A copy that was refused is sent again, to whoever is in charge then, for at most so long.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(20);
const READ_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    common: Common,
    /// How many keys
    #[arg(long, default_value_t = 1_000)]
    keys: u32,
    /// Milliseconds between two writes
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
struct Member {
    id: String,
    ip: String,
    #[serde(default)]
    services: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    id: String,
    primary_node: String,
    replica_nodes: Vec<String>,
}

/// What `/cluster` tells a smart client.
#[derive(Debug, Default)]
struct Map {
    stores: BTreeMap<String, String>,
    partitions: BTreeMap<String, Vec<String>>,
    modulo: u32,
}

impl Map {
    fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let hash = &body["hash_config"];
        if hash["algorithm"] != "md5" {
            return None;
        }
        let modulo = u32::try_from(hash["modulo"].as_u64()?).ok().filter(|modulo| *modulo > 0)?;
        let nodes: Vec<Member> = serde_json::from_value(body["cluster"]["nodes"].clone()).ok()?;
        let partitions: BTreeMap<String, Partition> =
            serde_json::from_value(body["cluster"]["partition_map"]["partitions"].clone()).ok()?;
        let store = |node: Member| {
            let address = node.services.get("kv").unwrap_or(&node.ip);
            (node.id, kv_url(address))
        };
        let nodes_of = |partition: Partition| {
            let nodes = std::iter::once(partition.primary_node).chain(partition.replica_nodes);
            (partition.id, nodes.collect())
        };
        Some(Self {
            stores: nodes.into_iter().map(store).collect(),
            partitions: partitions.into_values().map(nodes_of).collect(),
            modulo,
        })
    }

    /// The stores in charge of a key, the primary's first.
    fn stores_of(&self, key: &str) -> Vec<String> {
        if self.modulo == 0 {
            return Vec::new();
        }
        let id = format!("partition-{}", key_hash(key.as_bytes()) % self.modulo);
        let nodes = self.partitions.get(&id).into_iter().flatten();
        nodes.filter_map(|node| self.stores.get(node).cloned()).collect()
    }
}

/// How a write went.
enum Written {
    Acknowledged,
    /// Not stored by enough nodes, or nobody knows.
    Not(String),
}

#[derive(Clone)]
struct Client {
    mode: Mode,
    http: Http,
    servers: Vec<String>,
}

impl Client {
    fn new(mode: Mode, common: &Common) -> Self {
        Self { mode, http: Http::new(), servers: common.servers.clone() }
    }

    /// Asks one node after the other for the map.
    async fn map(&self) -> Map {
        for server in &self.servers {
            let (_, body) = self.http.get(&format!("http://{server}/cluster")).await;
            if let Some(map) = Map::read(&body) {
                return map;
            }
        }
        Map::default()
    }

    /// The stores to ask: any node's in server-side mode.
    async fn stores(&self, map: &Map, key: &str, turn: usize) -> Vec<String> {
        if self.mode != Mode::ServerSide {
            return map.stores_of(key);
        }
        let mut stores: Vec<_> = map.stores.values().cloned().collect();
        let count = stores.len().max(1);
        stores.rotate_left(turn % count);
        stores
    }

    async fn write(
        &self,
        map: &Map,
        (key, value): (&str, &str),
        turn: usize,
        background: &mut JoinSet<bool>,
    ) -> Written {
        if self.mode == Mode::CustomData {
            let server = &self.servers[turn % self.servers.len()];
            let url = format!("http://{server}/custom-data/{}", escape(key));
            let (status, _) = self.http.ask(http::Method::PUT, &url, value.to_owned()).await;
            return if status == 200 {
                Written::Acknowledged
            } else {
                Written::Not(format!("status {status}"))
            };
        }
        let version = now();
        let body = json!({ "key": key, "value": value, "version": version });
        let stores = self.stores(map, key, turn).await;
        match self.mode {
            Mode::ServerSide => {
                let Some(store) = stores.first() else { return Written::Not("no map".to_owned()) };
                let url = format!("{store}/kv/set");
                let (status, answer) = self.http.ask(http::Method::POST, &url, body.to_string()).await;
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                match (status, answer["warning"].as_str()) {
                    (200, None | Some("written_to_replica")) => Written::Acknowledged,
                    (status, warning) => Written::Not(format!("status {status} {}", warning.unwrap_or(""))),
                }
            }
            Mode::SyncReplication => {
                let wanted = 2;
                let sent = stores.iter().map(|store| {
                    let url = format!("{store}/kv/set");
                    let (http, body) = (&self.http, &body);
                    async move { http.post(&url, body).await }
                });
                let stored = join_all(sent).await.into_iter().filter(|stored| *stored).count();
                if stored >= wanted {
                    Written::Acknowledged
                } else {
                    Written::Not(format!("quorum not reached: {stored}/{wanted}"))
                }
            }
            Mode::AsyncReplication => {
                for (at, store) in stores.iter().enumerate() {
                    if !self.http.post(&format!("{store}/kv/set"), &body).await {
                        continue;
                    }
                    for other in stores.iter().enumerate().filter(|(other, _)| *other != at) {
                        let (client, key, url) = (self.clone(), key.to_owned(), other.1.clone());
                        background.spawn(copy(client, key, url, body.clone()));
                    }
                    return Written::Acknowledged;
                }
                Written::Not("no node stored it".to_owned())
            }
            Mode::CustomData => Written::Not("not a store".to_owned()),
        }
    }

    /// The first answer that has the value; none if nobody has it.
    async fn read(&self, map: &Map, key: &str, turn: usize) -> Option<String> {
        if self.mode == Mode::CustomData {
            let server = &self.servers[turn % self.servers.len()];
            let (status, body) = self.http.get(&format!("http://{server}/custom-data/{}", escape(key))).await;
            return (status == 200).then(|| String::from_utf8_lossy(&body).into_owned());
        }
        for store in self.stores(map, key, turn).await {
            let (status, body) = self.http.get(&format!("{store}/kv/get?key={}", escape(key))).await;
            if status == 200 {
                let body: Value = serde_json::from_slice(&body).ok()?;
                return body["value"].as_str().map(str::to_owned);
            }
        }
        None
    }
}

/// Sends a copy to a replica until it has it; when the replica is gone, to whoever is in charge then.
async fn copy(client: Client, key: String, mut url: String, body: Value) -> bool {
    let began = Instant::now();
    while began.elapsed() < BACKGROUND_PATIENCE {
        if client.http.post(&format!("{url}/kv/set"), &body).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stores = client.map().await.stores_of(&key);
        if !stores.contains(&url) {
            let Some(store) = stores.last() else { continue };
            url.clone_from(store);
        }
    }
    false
}

pub(crate) async fn load(mode: Mode, load: &Load) -> Result<(), Box<dyn Error>> {
    let client = Client::new(mode, &load.common);
    let mut noted = File::create(&load.common.acknowledged)?;
    let (mut map, mut background) = (client.map().await, JoinSet::new());
    let (mut acknowledged, mut copies_failed) = (0, 0);
    for number in 1..=load.keys {
        let (key, value) = (format!("user:{number}"), format!("User-{number}"));
        match client.write(&map, (&key, &value), number as usize, &mut background).await {
            Written::Acknowledged => {
                writeln!(noted, "{key} {value}")?;
                acknowledged += 1;
            }
            Written::Not(reason) => {
                tracing::info!(key, reason, "not acknowledged");
                map = client.map().await;
            }
        }
        while background.len() >= BACKGROUND_MAX {
            copies_failed += usize::from(!matches!(background.join_next().await, Some(Ok(true))));
        }
        tokio::time::sleep(Duration::from_millis(load.pause_ms)).await;
    }
    while let Some(copied) = background.join_next().await {
        copies_failed += usize::from(!matches!(copied, Ok(true)));
    }
    tracing::info!(acknowledged, of = load.keys, copies_failed, "loaded");
    Ok(())
}

pub(crate) async fn verify(mode: Mode, verify: &Verify) -> Result<(), Box<dyn Error>> {
    let client = Client::new(mode, &verify.common);
    let text = fs::read_to_string(&verify.common.acknowledged)?;
    let wanted: Vec<_> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    if wanted.is_empty() {
        return Err("nothing was acknowledged: there is nothing to verify".into());
    }
    let mut map = client.map().await;
    let mut lost = Vec::new();
    for (turn, (key, value)) in wanted.iter().enumerate() {
        let began = Instant::now();
        // Partitions may still be on their way to their new nodes.
        while client.read(&map, key, turn).await.as_deref() != Some(value) {
            if began.elapsed() > READ_PATIENCE || lost.len() > 10 {
                lost.push(*key);
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            map = client.map().await;
        }
    }
    tracing::info!(acknowledged = wanted.len(), lost = lost.len(), "verified");
    if lost.is_empty() { Ok(()) } else { Err(format!("acknowledged and not there: {lost:?}").into()) }
}
