//! Three members in one process, each on a disk that loses power, hangs or fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use queuebench_system::{
    kv::{
        client::{KvClient, KvClientError},
        server::KvServer,
        service::{Consistency, Limits},
        store::Store,
    },
    raft::{
        disk::memory::{Fault, MemoryDisk},
        identity::Membership,
        node::NodeConfig,
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

use crate::cluster::{HEAL, ONE};

struct Disks {
    dir: TempDir,
    urls: Vec<String>,
    addresses: Vec<std::net::SocketAddr>,
    disks: Vec<MemoryDisk>,
    servers: Vec<Option<KvServer>>,
}

impl Disks {
    async fn start() -> Self {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let urls = addresses.iter().map(|address| format!("http://{address}")).collect();
        let mut cluster = Self {
            dir: TempDir::new().unwrap(),
            urls,
            addresses,
            disks: vec![MemoryDisk::new(), MemoryDisk::new(), MemoryDisk::new()],
            servers: vec![None, None, None],
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            cluster.serve(index, listener).await;
        }
        cluster
    }

    async fn serve(&mut self, index: usize, listener: TcpListener) {
        let config = NodeConfig {
            segment_bytes: 1 << 16,
            snapshot_entries: 100,
            ..NodeConfig::new(
                &format!("kv{index}"),
                &self.urls[index],
                Membership::Founder(self.urls.clone()),
                self.dir.path().join(index.to_string()),
            )
        };
        let disk = Arc::new(self.disks[index].clone());
        let server = KvServer::start_on(listener, config, Limits::default(), None, disk).await.unwrap();
        self.servers[index] = Some(server);
    }

    async fn restart(&mut self, index: usize) {
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.addresses[index]).await {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < HEAL, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        self.serve(index, listener).await;
    }

    fn client(&self) -> KvClient {
        KvClient::new(&self.urls, HEAL)
    }

    fn server(&self, index: usize) -> &KvServer {
        self.servers[index].as_ref().unwrap()
    }

    async fn leader(&self) -> usize {
        self.until("a leader", |cluster| {
            (0..3).find(|index| {
                cluster.servers[*index].as_ref().is_some_and(|server| server.kv().node().leads())
            })
        })
        .await
    }

    async fn until<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = ask(self) {
                return found;
            }
            assert!(began.elapsed() < HEAL, "not within {HEAL:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&mut self, index: usize) {
        if let Some(server) = self.servers[index].take() {
            server.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_of_the_whole_cluster_loses_nothing_acknowledged() {
    let _turn = ONE.lock().await;
    let mut cluster = Disks::start().await;
    let mut expected: BTreeMap<String, (u64, Vec<u64>)> = BTreeMap::new();
    let mut random = 7u64;
    for round in 0..5u64 {
        cluster.leader().await;
        let dark = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..6 {
            let client = KvClient::new(&cluster.urls, Duration::from_millis(300));
            let dark = dark.clone();
            writers.spawn(async move {
                let (mut acknowledged, mut unknown) = (None, Vec::new());
                let key = format!("w{writer}");
                for number in round * 1_000_000.. {
                    match client.put(key.as_bytes(), Bytes::from(number.to_string())).await {
                        Ok(_) => {
                            acknowledged = Some(number);
                            unknown.clear();
                        }
                        Err(KvClientError::NoLeader(_)) => {
                            unknown.push(number);
                            if dark.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                (key, acknowledged, unknown)
            });
        }
        let revision = cluster.server(0).kv().node().machine().read(Store::revision);
        cluster
            .until("writes are applied", |cluster| {
                let now = cluster.server(0).kv().node().machine().read(Store::revision);
                (now > revision + 150).then_some(())
            })
            .await;
        for disk in &cluster.disks {
            disk.fail_now(Fault::PowerLoss);
        }
        dark.store(true, Ordering::Relaxed);
        while let Some(writer) = writers.join_next().await {
            let (key, acknowledged, unknown) = writer.unwrap();
            let known = expected.entry(key).or_default();
            if let Some(number) = acknowledged {
                *known = (number, unknown);
            } else {
                known.1.extend(unknown);
            }
        }
        // Whoever led has noticed; a follower may not have written since.
        let failed = |server: &KvServer| server.kv().node().fatal().borrow().is_some();
        cluster
            .until("a node fails with its disk", |c| c.servers.iter().flatten().any(failed).then_some(()))
            .await;
        for index in 0..3 {
            cluster.stop(index).await;
            cluster.disks[index] = cluster.disks[index].after_power_loss(|below| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            });
        }
        for index in 0..3 {
            cluster.restart(index).await;
        }
        let client = cluster.client();
        for (key, (number, unknown)) in &expected {
            let found = client.get(key.as_bytes(), false).await.unwrap().expect("an acknowledged key");
            let found: u64 = std::str::from_utf8(&found.body).unwrap().parse().unwrap();
            assert!(
                found == *number || unknown.contains(&found),
                "{key}: {number} acknowledged, {found} found"
            );
        }
    }
    for index in 0..3 {
        cluster.stop(index).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_hands_over_and_then_fails() {
    let _turn = ONE.lock().await;
    let mut cluster = Disks::start().await;
    let client = cluster.client();
    client.put(b"k", "before".into()).await.unwrap();
    let hung = cluster.leader().await;
    cluster.disks[hung].fail_now(Fault::Stall);
    // The write that hits the stalled flush is committed by the two others, or repeated at the new leader.
    client.put(b"k", "during".into()).await.unwrap();
    cluster
        .until("another leader", |cluster| {
            (0..3).find(|index| *index != hung && cluster.server(*index).kv().node().leads())
        })
        .await;
    client.put(b"k", "after".into()).await.unwrap();
    let other = (hung + 1) % 3;
    let read =
        cluster.server(other).kv().read(Consistency::Linearizable, |store| store.get(&"k".into())).await;
    assert_eq!(read.unwrap().unwrap().value, "after");
    let mut fatal = cluster.server(hung).kv().node().fatal();
    let failed = tokio::time::timeout(HEAL * 2, fatal.wait_for(Option::is_some)).await;
    assert!(failed.unwrap().unwrap().as_ref().unwrap().contains("hangs"));
    cluster.disks[hung].resume();
    for index in 0..3 {
        cluster.stop(index).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_full_fails_and_recovers_with_space() {
    let _turn = ONE.lock().await;
    let mut cluster = Disks::start().await;
    let client = cluster.client();
    client.put(b"k", "1".into()).await.unwrap();
    let full = cluster.leader().await;
    cluster.disks[full].fail_now(Fault::NoSpace);
    client.put(b"k", "2".into()).await.unwrap();
    let mut fatal = cluster.server(full).kv().node().fatal();
    tokio::time::timeout(HEAL, fatal.wait_for(Option::is_some)).await.unwrap().unwrap();
    cluster.stop(full).await;
    client.put(b"k", "3".into()).await.unwrap();
    cluster.disks[full].resume();
    cluster.restart(full).await;
    cluster
        .until("the member caught up", |cluster| {
            let kv = cluster.server(full).kv().node().machine().read(|store| store.get(&"k".into()));
            kv.filter(|kv| kv.value == "3").map(|_| ())
        })
        .await;
    for index in 0..3 {
        cluster.stop(index).await;
    }
}
