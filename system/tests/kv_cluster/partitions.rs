//! Links between nodes are cut, silently: whoever is in the minority neither confirms a write nor answers a
//! linearizable read, and all are whole again once the links are.

use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::{
    cluster::Cluster,
    faults::{FAST, WHOLE},
};

fn others(of: usize) -> Vec<usize> {
    (0..3).filter(|index| *index != of).collect()
}

/// A member that is back serves linearizable reads, and the first one it answers is right.
async fn read_again(cluster: &Cluster, member: usize, expected: &Bytes) {
    let read = cluster.until("a member that is back reads", async |cluster| {
        cluster.get(member, "/kv/k").await.ok().filter(|read| read.status == StatusCode::OK)
    });
    assert_eq!(read.await.body, *expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_in_the_minority_confirms_nothing_and_reads_nothing_stale() {
    let cluster = Cluster::start_with_links(3, &FAST).await;
    for round in 0..2 {
        let value = |version: &str| Bytes::from(format!("{version}-{round}"));
        assert_eq!(cluster.write(Method::PUT, "/kv/k", value("before")).await.status, StatusCode::OK);
        let old = cluster.leader().await;
        let silenced = cluster.silenced();
        cluster.part(old, true);
        let new = cluster.wait_for_leader(&others(old)).await;
        assert_ne!(new, old);
        let written = cluster.write_at(&others(old), Method::PUT, "/kv/k", value("after")).await;
        assert_eq!(written.status, StatusCode::OK);
        // The old leader may have nothing to say; what it says must not be old.
        for _ in 0..3 {
            if let Ok(read) = cluster.get(old, "/kv/k").await
                && read.status == StatusCode::OK
            {
                assert_eq!(read.body, value("after"), "a stale read in the minority");
            }
        }
        let lonely = cluster.ask(old, Method::PUT, "/kv/lonely", &[], "x").await;
        assert!(!lonely.is_ok_and(|answer| answer.status == StatusCode::OK), "a write without a majority");
        let stale = cluster.get(old, "/kv/k?consistency=serializable").await.unwrap();
        assert_eq!(stale.body, value("before"), "a local read needs nobody");
        assert!(cluster.silenced() > silenced, "no link was cut, so nothing is proved");

        let began = Instant::now();
        cluster.part(old, false);
        cluster.wait_for_leader(&[0, 1, 2]).await;
        cluster.wait_for_equal_state().await;
        assert!(began.elapsed() < WHOLE, "whole again after {:?} only", began.elapsed());
        read_again(&cluster, old, &value("after")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_in_the_minority_neither_disturbs_the_majority_nor_answers_for_it() {
    let cluster = Cluster::start_with_links(3, &FAST).await;
    cluster.write(Method::PUT, "/kv/k", "before").await;
    cluster.wait_for_equal_state().await;
    let leader = cluster.leader().await;
    let term = |state: serde_json::Value| state["term"].as_u64().unwrap();
    let before = term(cluster.json(leader, "/raft/state").await.unwrap());
    let apart = (leader + 1) % 3;
    cluster.part(apart, true);
    for number in 0..50 {
        let written = cluster.write_at(&others(apart), Method::PUT, "/kv/k", format!("{number}")).await;
        assert_eq!(written.status, StatusCode::OK);
    }
    let read = cluster.get(apart, "/kv/k").await;
    assert!(!read.is_ok_and(|read| read.status == StatusCode::OK), "a linearizable read without a majority");
    assert!(cluster.silenced() > 0, "no link was cut, so nothing is proved");
    let began = Instant::now();
    cluster.part(apart, false);
    cluster.wait_for_equal_state().await;
    assert!(began.elapsed() < WHOLE, "whole again after {:?} only", began.elapsed());
    read_again(&cluster, apart, &Bytes::from_static(b"49")).await;
    // It asked before it voted for itself, so its return deposed nobody.
    assert_eq!(term(cluster.json(leader, "/raft/state").await.unwrap()), before, "pre-vote is off");
}
