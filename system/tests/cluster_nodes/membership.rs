//! Members that die, come back, are replaced and leave; locks; nothing acknowledged is lost.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queuebench_system::cluster::{
    ChangeError, Hooks, Refusal,
    event::{NodeLeave, NodeRejoin, PartitionChange, Rebalance, RebalanceComplete, RejoinKind},
};

use crate::support::{HEALTH, agreed, eventually, get, start, start_again, three, until};

/// What a node's hooks were told, in order.
struct Recorder(Mutex<mpsc::Sender<String>>);

impl Recorder {
    fn new() -> (Arc<Self>, mpsc::Receiver<String>) {
        let (told, heard) = mpsc::channel();
        (Arc::new(Self(Mutex::new(told))), heard)
    }

    fn tell(&self, what: String) {
        let _ = self.0.lock().send(what);
    }
}

impl Hooks for Recorder {
    fn node_rejoin(&self, rejoin: &NodeRejoin) {
        self.tell(format!("rejoin {} {:?}", rejoin.node.id, rejoin.kind));
    }
    fn node_leave(&self, leave: &NodeLeave) {
        self.tell(format!("leave {} {:?}", leave.node.id, leave.reason));
    }
    fn rebalance_start(&self, _: &Rebalance) {
        self.tell("start".to_owned());
    }
    fn partition_change(&self, _: &PartitionChange) {
        self.tell("change".to_owned());
    }
    fn rebalance_complete(&self, _: &RebalanceComplete) {
        self.tell("complete".to_owned());
    }
}

/// Drains what was told so far, repeated lines once.
fn told(heard: &mpsc::Receiver<String>) -> Vec<String> {
    let mut told: Vec<_> = heard.try_iter().collect();
    told.dedup();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_removed_and_returns_with_its_old_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = Vec::from(three(directory.path()).await);
    for number in 0..50 {
        nodes[number % 3].set_custom_data(&format!("key-{number}"), format!("{number}")).await.unwrap();
    }
    let dead = nodes.iter().position(|kit| !kit.is_leader()).unwrap();
    let number = u32::try_from(dead).unwrap() + 1;
    let gone = nodes.remove(dead);
    let living: Vec<_> = nodes.iter().collect();
    let recorders: Vec<_> = living
        .iter()
        .map(|kit| {
            let (recorder, heard) = Recorder::new();
            kit.add_hooks(recorder);
            heard
        })
        .collect();
    let died = Instant::now();
    gone.stop().await;
    drop(gone);
    until("the dead one removed", || living.iter().all(|kit| agreed(kit, 2))).await;
    let took = died.elapsed();
    let allowed = HEALTH.detection() + HEALTH.interval * 2 + Duration::from_secs(1);
    assert!(took < allowed, "agreement took {took:?}, allowed are {allowed:?}");
    living[0].set_custom_data("while-away", "x").await.unwrap();
    let back = start_again(number, directory.path(), living[0]).await;
    let rejoined = format!("rejoin node-{number} {:?}", RejoinKind::Returned);
    until("the dead one back", || agreed(&back, 3) && living.iter().all(|kit| agreed(kit, 3))).await;
    for number in 0..50 {
        assert_eq!(back.custom_data(&format!("key-{number}")).unwrap(), format!("{number}"));
    }
    assert_eq!(back.custom_data("while-away").unwrap(), "x");
    for heard in &recorders {
        let mut all = Vec::new();
        until("hooks told", || {
            all.extend(told(heard));
            all.dedup();
            all.iter().filter(|line| *line == "complete").count() == 2
        })
        .await;
        let left = format!("leave node-{number} HealthCheckFailure");
        assert_eq!(all, [&left, "start", "change", "complete", &rejoined, "start", "change", "complete"]);
    }
    back.stop().await;
    for kit in living {
        kit.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_machine_takes_over_an_old_name() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    nodes[0].set_custom_data("kept", "x").await.unwrap();
    let old = nodes.iter().position(|kit| !kit.is_leader()).unwrap();
    let number = u32::try_from(old).unwrap() + 1;
    let living: Vec<_> = nodes.iter().enumerate().filter(|(at, _)| *at != old).map(|(_, kit)| kit).collect();
    nodes[old].stop().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let new = start(number, elsewhere.path(), &[living[1]]).await;
    until("the new one in", || agreed(&new, 3) && living.iter().all(|kit| agreed(kit, 3))).await;
    assert_eq!(new.custom_data("kept").unwrap(), "x");
    // Its vote counts in place of the old one: the cluster goes on without another.
    eventually("the old vote is no longer counted", async || {
        get(living[0], "/consensus/stats").await["num_peers"] == 2
    })
    .await;
    let other = living.iter().position(|kit| !kit.is_leader());
    if let Some(other) = other {
        living[other].stop().await;
    }
    new.set_custom_data("after", "y").await.unwrap();
    new.stop().await;
    for kit in living {
        kit.stop().await;
    }
}

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
