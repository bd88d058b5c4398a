//! Nothing acknowledged is lost and nothing stale is read, whatever is killed or paused meanwhile.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use queuebench_system::kv::client::HttpClient;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, HEAL};

/// What one writer knows: the value it last had acknowledged under each of its keys, and later ones whose
/// outcome is unknown.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeMap<String, u64>,
    unknown: BTreeMap<String, Vec<u64>>,
    revisions: Vec<i64>,
}

struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: JoinSet<Ledger>,
    /// Linearizable reads that could have shown a stale value.
    proofs: Arc<AtomicU64>,
    readers: JoinSet<()>,
}

const KEYS: u64 = 20;

/// How long a cluster may take, from a kill on, until all its members are back and have the same log.
pub(crate) const WHOLE: Duration = Duration::from_secs(10);

/// Elections soon after a loss, so that many losses fit into a test, and still late enough for a busy machine.
pub(crate) const FAST: [&str; 2] = ["--election-ms=400", "--heartbeat-ms=50"];

/// Kills under load; `QUEUEBENCH_KV_KILLS` chooses another number, 200 for instance.
fn kills() -> usize {
    std::env::var("QUEUEBENCH_KV_KILLS").map_or(5, |text| text.parse().expect("a number of kills"))
}

/// What was acknowledged, key by key, for those who read beside the writers: whoever begins to read after it
/// must see it or something newer.
type Floors = Arc<Vec<Vec<AtomicU64>>>;

fn start_load(cluster: &Cluster, writers: usize) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let (written, proofs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let urls: Vec<String> = cluster.members.iter().map(|member| member.url.clone()).collect();
    let floors: Floors =
        Arc::new((0..writers).map(|_| (0..KEYS).map(|_| AtomicU64::new(0)).collect()).collect());
    let (mut tasks, mut readers) = (JoinSet::new(), JoinSet::new());
    for writer in 0..writers {
        tasks.spawn(write(writer, urls.clone(), stop.clone(), written.clone(), floors.clone()));
    }
    for reader in 0..2 {
        readers.spawn(read(reader, urls.clone(), stop.clone(), proofs.clone(), floors.clone()));
    }
    Load { stop, written, writers: tasks, proofs, readers }
}

/// Reads linearizably at one member after the other, and fails on the first stale answer.
async fn read(
    reader: usize,
    urls: Vec<String>,
    stop: Arc<AtomicBool>,
    proofs: Arc<AtomicU64>,
    floors: Floors,
) {
    let client = HttpClient::new();
    let mut turn = reader;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let writer = turn % floors.len();
        let key = turn / floors.len() % floors[writer].len();
        let floor = floors[writer][key].load(Ordering::Acquire);
        let url = format!("{}/kv/w{writer}-{key}", urls[turn % urls.len()]);
        let sent = client.send(Method::GET, &url, &[], Bytes::new(), Duration::from_secs(2)).await;
        match sent {
            Ok(answer) if answer.status == StatusCode::OK => {
                let found: u64 = std::str::from_utf8(&answer.body).unwrap().parse().unwrap();
                assert!(found >= floor, "a stale read of w{writer}-{key} at {url}: {found} below {floor}");
                proofs.fetch_add(u64::from(floor > 0), Ordering::Relaxed);
            }
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
                assert_eq!(floor, 0, "a stale read of w{writer}-{key} at {url}: nothing");
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn write(
    writer: usize,
    urls: Vec<String>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    floors: Floors,
) -> Ledger {
    let client = HttpClient::new();
    let mut ledger = Ledger::default();
    let mut target = urls[writer % urls.len()].clone();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("w{writer}-{}", number % KEYS);
        let url = format!("{target}/kv/{key}");
        let sent = client
            .send(Method::PUT, &url, &[], Bytes::from(number.to_string()), Duration::from_secs(2))
            .await;
        match sent {
            Ok(answer) if answer.status == StatusCode::OK => {
                let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                ledger.revisions.push(body["revision"].as_i64().unwrap());
                ledger.acknowledged.insert(key.clone(), number);
                let floor = &floors[writer][usize::try_from(number % KEYS).unwrap()];
                floor.store(number, Ordering::Release);
                ledger.unknown.remove(&key);
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) if answer.status == StatusCode::TEMPORARY_REDIRECT => {
                let location = answer.headers["location"].to_str().unwrap();
                target = location.split("/kv/").next().unwrap().to_owned();
            }
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                target = urls[usize::try_from(number).unwrap() % urls.len()].clone();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(answer) => {
                assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{:?}", answer.body);
                ledger.unknown.entry(key).or_default().push(number);
            }
            Err(_) => {
                ledger.unknown.entry(key).or_default().push(number);
                target = urls[usize::try_from(number).unwrap() % urls.len()].clone();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    ledger
}

impl Load {
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until some more writes were acknowledged: the cluster works again.
    async fn wait_for_progress(&self, cluster: &Cluster, more: u64) {
        let target = self.written() + more;
        cluster.until("writes are acknowledged", async |_| (self.written() >= target).then_some(())).await;
    }

    /// Ends the load and judges it against what the cluster holds now.
    async fn judge(mut self, cluster: &Cluster) -> u64 {
        let proofs = || self.proofs.load(Ordering::Relaxed);
        let proven = async |_: &Cluster| (proofs() > 20).then_some(());
        cluster.until("enough reads could have shown a stale value", proven).await;
        self.stop.store(true, Ordering::Relaxed);
        while let Some(reader) = self.readers.join_next().await {
            reader.unwrap();
        }
        let mut acknowledged = 0;
        let reader = cluster.leader().await;
        while let Some(ledger) = self.writers.join_next().await {
            let ledger = ledger.unwrap();
            assert!(ledger.revisions.is_sorted_by(|a, b| a < b), "a writer saw revisions go back");
            acknowledged += ledger.revisions.len() as u64;
            for (key, number) in &ledger.acknowledged {
                let answer = cluster.get(reader, &format!("/kv/{key}")).await.unwrap();
                assert_eq!(answer.status, StatusCode::OK, "the acknowledged key {key} is gone");
                let found: u64 = std::str::from_utf8(&answer.body).unwrap().parse().unwrap();
                let may_be = ledger.unknown.get(key).is_some_and(|unknown| unknown.contains(&found));
                assert!(found == *number || may_be, "{key}: {number} was acknowledged, {found} was found");
            }
        }
        assert_eq!(acknowledged, self.written());
        cluster.wait_for_equal_state().await;
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_nodes_are_killed_under_load() {
    let kills = kills();
    let mut cluster = Cluster::start(3, &["--snapshot-entries=200", FAST[0], FAST[1]]).await;
    let load = start_load(&cluster, 8);
    let (mut killed_leaders, mut slowest) = (0, Duration::ZERO);
    for round in 0..kills {
        load.wait_for_progress(&cluster, 30).await;
        let leader = cluster.leader().await;
        let victim = if round % 2 == 0 { leader } else { round % 3 };
        killed_leaders += usize::from(victim == leader);
        let began = std::time::Instant::now();
        cluster.kill(victim);
        load.wait_for_progress(&cluster, 30).await;
        cluster.spawn(victim);
        cluster.wait_until_whole(victim).await;
        slowest = slowest.max(began.elapsed());
        assert!(began.elapsed() < WHOLE, "kill {round} was healed after {:?} only", began.elapsed());
    }
    assert!(killed_leaders >= kills / 2, "{killed_leaders} of {kills} kills hit the leader");
    let acknowledged = load.judge(&cluster).await;
    assert!(acknowledged >= 50 * kills as u64, "only {acknowledged} writes were acknowledged");
    eprintln!("{kills} kills, {killed_leaders} of leaders, {acknowledged} writes, healed within {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_all_nodes_are_killed_at_once() {
    let mut cluster = Cluster::start(3, &FAST).await;
    let load = start_load(&cluster, 8);
    for _ in 0..3 {
        load.wait_for_progress(&cluster, 50).await;
        for index in 0..3 {
            cluster.kill(index);
        }
        let began = std::time::Instant::now();
        for index in 0..3 {
            cluster.spawn(index);
        }
        cluster.wait_until_whole(0).await;
        assert!(began.elapsed() < WHOLE, "whole again after {:?} only", began.elapsed());
    }
    load.judge(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_answers_no_stale_read() {
    let cluster = Cluster::start(3, &FAST).await;
    let mut paused = 0;
    for round in 0..5 {
        let old = cluster.leader().await;
        let value = |version: &str| Bytes::from(format!("{version}-{round}"));
        assert_eq!(cluster.write(Method::PUT, "/kv/k", value("before")).await.status, StatusCode::OK);
        cluster.signal(old, "STOP");
        // Reads that wait inside the stopped process when the others go on.
        let mut reads = JoinSet::new();
        for _ in 0..20 {
            let (client, url) = (cluster.client.clone(), format!("{}/kv/k", cluster.members[old].url));
            let patience = HEAL;
            reads.spawn(async move { client.send(Method::GET, &url, &[], Bytes::new(), patience).await });
        }
        let others: Vec<usize> = (0..3).filter(|index| *index != old).collect();
        let new = cluster.wait_for_leader(&others).await;
        paused += usize::from(new != old);
        let answer = cluster.write_at(&others, Method::PUT, "/kv/k", value("after")).await;
        assert_eq!(answer.status, StatusCode::OK);
        cluster.signal(old, "CONT");
        // From here on nothing but the new value may be read anywhere.
        let url = format!("{}/kv/k", cluster.members[old].url);
        for _ in 0..50 {
            let read = cluster.client.send(Method::GET, &url, &[], Bytes::new(), HEAL).await.unwrap();
            if read.status == StatusCode::OK {
                assert_eq!(read.body, value("after"), "a stale read after the pause");
            }
        }
        while let Some(read) = reads.join_next().await {
            if let Ok(read) = read.unwrap()
                && read.status == StatusCode::OK
            {
                // They began before the second write was acknowledged: either value is right.
                assert!(read.body == value("after") || read.body == value("before"), "{:?}", read.body);
            }
        }
        cluster.wait_for_leader(&[0, 1, 2]).await;
    }
    assert_eq!(paused, 5, "a pause that moved no leader proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_catches_up_by_snapshot_under_load() {
    let mut cluster = Cluster::start(3, &["--snapshot-entries=50", FAST[0], FAST[1]]).await;
    let leader = cluster.leader().await;
    let behind = (0..3).find(|index| *index != leader).unwrap();
    let load = start_load(&cluster, 4);
    load.wait_for_progress(&cluster, 20).await;
    cluster.kill(behind);
    for _ in 0..10 {
        load.wait_for_progress(&cluster, 60).await;
    }
    cluster.spawn(behind);
    cluster
        .until("a snapshot is received", async |cluster| {
            let metrics = cluster.get(behind, "/metrics").await.ok()?;
            let text = String::from_utf8(metrics.body.to_vec()).ok()?;
            let line = text.lines().find(|line| line.starts_with("raft_snapshots_received_total"))?;
            (line.rsplit(' ').next()? != "0").then_some(())
        })
        .await;
    load.wait_for_progress(&cluster, 100).await;
    load.judge(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_leave_and_hand_over_under_load() {
    let mut cluster = Cluster::start(3, &["--snapshot-entries=100", FAST[0], FAST[1]]).await;
    let load = start_load(&cluster, 4);
    load.wait_for_progress(&cluster, 100).await;
    let joiner = cluster.start_joiner("kv4").await;
    let body = format!(r#"{{"id":"kv4","url":"{}"}}"#, cluster.members[joiner].url);
    let added = cluster.write_at(&[0, 1, 2], Method::POST, "/raft/members", body).await;
    assert_eq!(added.status, StatusCode::OK, "{:?}", added.body);

    let transfer = Bytes::from_static(br#"{"to":"kv4"}"#);
    let handed = cluster.write(Method::POST, "/raft/transfer", transfer).await;
    assert_eq!(handed.status, StatusCode::OK, "{:?}", handed.body);
    load.wait_for_progress(&cluster, 100).await;

    let gone = 0;
    let path = format!("/raft/members/{}", cluster.members[gone].name);
    let removed = cluster.write(Method::DELETE, &path, Bytes::new()).await;
    assert_eq!(removed.status, StatusCode::OK, "{:?}", removed.body);
    let members: serde_json::Value = serde_json::from_slice(&removed.body).unwrap();
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    cluster.kill(gone);
    load.wait_for_progress(&cluster, 100).await;
    load.judge(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_refused() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    cluster.write(Method::PUT, "/kv/k", "v").await;
    cluster.wait_for_equal_state().await;
    let wiped = (0..3).find(|index| *index != leader).unwrap();
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.data_dir(wiped)).unwrap();
    cluster.spawn(wiped);
    cluster
        .until("the refusal is logged", async |cluster| {
            cluster.log_of(wiped).contains("lost its data directory").then_some(())
        })
        .await;
    // It took no part: the term and the leader are as before.
    let state = cluster.json(leader, "/raft/state").await.unwrap();
    assert_eq!(state["role"], "leader");
    assert!(cluster.ended(leader).is_none());
}
