//! How long nobody can write after a leader is gone or hands over, measured from writes that are due every few
//! milliseconds whether or not earlier ones were answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::cluster::Cluster;

const ELECTION: Duration = Duration::from_millis(500);
/// Between two writes that are due.
const EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// How many leaders are killed; `QUEUEBENCH_KV_FAILOVERS` chooses another number.
fn failovers() -> usize {
    std::env::var("QUEUEBENCH_KV_FAILOVERS").map_or(3, |text| text.parse().expect("a number of kills"))
}

/// Sends a write to every one of `members` each time one is due; answers when the first was acknowledged.
async fn first_write(cluster: &Cluster, members: &[usize], since: Instant) -> Duration {
    let mut sent = JoinSet::new();
    for number in 0u32.. {
        let due = since + EVERY * number;
        tokio::time::sleep_until(due.into()).await;
        for &member in members {
            let (client, url) = (cluster.client.clone(), format!("{}/kv/due", cluster.members[member].url));
            sent.spawn(async move {
                let answer = client.send(Method::PUT, &url, &[], Bytes::from_static(b"x"), PATIENCE).await;
                answer.is_ok_and(|answer| answer.status == StatusCode::OK)
            });
        }
        while let Some(done) = sent.try_join_next() {
            if done.unwrap() {
                return since.elapsed();
            }
        }
        assert!(since.elapsed() < PATIENCE, "no write was acknowledged within {PATIENCE:?}");
    }
    unreachable!("the loop ends by its deadline")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_within_a_few_election_timeouts() {
    let election = format!("--election-ms={}", ELECTION.as_millis());
    let mut cluster = Cluster::start(3, &[&election]).await;
    let mut gaps = Vec::new();
    for _ in 0..failovers() {
        let leader = cluster.leader().await;
        let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
        let began = Instant::now();
        cluster.kill(leader);
        gaps.push(first_write(&cluster, &others, began).await);
        cluster.spawn(leader);
        cluster.wait_until_whole(leader).await;
    }
    gaps.sort_unstable();
    let (median, most) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    eprintln!("{} fail-overs at {ELECTION:?}: median {median:?}, longest {most:?}", gaps.len());
    // Three election timeouts on a free machine; a busy one schedules late.
    assert!(median < ELECTION * 3 && most < ELECTION * 8, "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_without_an_election_timeout() {
    let cluster = Cluster::start(3, &[]).await;
    let mut gaps = Vec::new();
    for _ in 0..5 {
        let leader = cluster.leader().await;
        let next = (leader + 1) % 3;
        let body = format!(r#"{{"to":"{}"}}"#, cluster.members[next].name);
        let began = Instant::now();
        let (client, url) =
            (cluster.client.clone(), format!("{}/raft/transfer", cluster.members[leader].url));
        let transfer =
            tokio::spawn(
                async move { client.send(Method::POST, &url, &[], Bytes::from(body), PATIENCE).await },
            );
        gaps.push(first_write(&cluster, &[next], began).await);
        assert_eq!(transfer.await.unwrap().unwrap().status, StatusCode::OK);
    }
    gaps.sort_unstable();
    eprintln!("5 transfers: median {:?}, longest {:?}", gaps[2], gaps[4]);
    assert!(gaps[2] < ELECTION, "a transfer took as long as an election: {gaps:?}");
}
