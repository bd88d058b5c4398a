//! Members that leave, and locks across nodes.

use std::time::Duration;

use queuebench_system::cluster::{ChangeError, Refusal};

use crate::support::{agreed, three, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    nodes[2].leave().await.unwrap();
    until("two members", || nodes[..2].iter().all(|kit| agreed(kit, 2))).await;
    let refused = nodes[0].remove_node(&"node-9".parse().unwrap()).await;
    assert_eq!(refused, Err(ChangeError::Refused(Refusal::UnknownNode("node-9".parse().unwrap()))));
    nodes[1].set_custom_data("k", "v").await.unwrap();
    for kit in &nodes[..2] {
        kit.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_fenced_across_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let ttl = Duration::from_secs(30);
    nodes[0].grant_lease("a", "alice", ttl).await.unwrap();
    nodes[1].grant_lease("b", "bob", ttl).await.unwrap();
    let first = nodes[1].acquire_lock("the-lock", "a").await.unwrap();
    let held = nodes[2].acquire_lock("the-lock", "b").await.unwrap_err();
    assert_eq!(held.to_string(), "lock `the-lock` is held by `alice`");
    nodes[2].revoke_lease("a").await.unwrap();
    let second = nodes[0].acquire_lock("the-lock", "b").await.unwrap();
    assert!(second > first);
    nodes[0].grant_lease("short", "carol", Duration::from_millis(300)).await.unwrap();
    until("the lease has ended", || {
        nodes.iter().all(|kit| kit.read(|state| state.leases().lease("short").is_none()))
    })
    .await;
    for kit in nodes {
        kit.stop().await;
    }
}
