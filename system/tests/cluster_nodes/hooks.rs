//! Hooks and callbacks of a running node, the exported file, and what the API answers off the leader.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;
use queuebench_system::cluster::{
    ChangeError, ClusterKit, Event, Hooks, Options, PartitionRole, QueryError, Refusal, hooks::Told,
};
use serde_json::Value;

use crate::support::{PATIENCE, options, three, until};

/// Notes the kind of every event.
struct Kinds(Mutex<mpsc::Sender<&'static str>>);

impl Hooks for Kinds {
    fn event(&self, event: &Event) {
        let kind = match event {
            Event::NodeJoin(_) => "join",
            Event::NodeRejoin(_) => "rejoin",
            Event::NodeLeave(_) => "leave",
            Event::RebalanceStart(_) => "start",
            Event::PartitionChange(_) => "change",
            Event::RebalanceComplete(_) => "complete",
            Event::LeaseEnd(_) => "lease",
            Event::HealthChange(_) | Event::StateReplaced(_) => return,
        };
        let _ = self.0.lock().send(kind);
    }
}

fn alone(directory: &std::path::Path) -> Options {
    Options { replication_factor: 1, ..options(1, directory, &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_given_to_the_builder_miss_nothing_and_callbacks_hear_their_kind() {
    let directory = tempfile::tempdir().unwrap();
    let (told, heard) = mpsc::channel();
    let (joined, joins) = mpsc::channel();
    let joined = Mutex::new(joined);
    let kit = queuebench_system::cluster::Builder::from(alone(directory.path()))
        .hooks(Arc::new(Kinds(Mutex::new(told))))
        .on_node_join(move |join| {
            let _ = joined.lock().send((join.node.id.to_string(), join.is_bootstrap, join.cluster_size));
        })
        .start()
        .await
        .unwrap();
    kit.wait_for_partitions(Duration::from_secs(40)).await.unwrap();
    let mut stream = kit.events();
    kit.wait_for_partitions(PATIENCE).await.unwrap();
    kit.grant_lease("l", "o", Duration::from_secs(5)).await.unwrap();
    kit.revoke_lease("l").await.unwrap();
    loop {
        let Some(Told::Notice(notice)) = stream.next().await else { panic!("the stream ended") };
        if matches!(notice.event, Event::LeaseEnd(_)) {
            break;
        }
    }
    let mut kinds = Vec::new();
    until("the lease's end told", || {
        kinds.extend(heard.try_iter());
        kinds.contains(&"lease")
    })
    .await;
    assert_eq!(kinds[0], "join", "{kinds:?}");
    assert_eq!(joins.recv_timeout(Duration::from_secs(10)).unwrap(), ("node-1".to_owned(), true, 1));
    assert!(joins.try_recv().is_err(), "a callback hears its own kind only");
    kit.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_alike_on_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    for kit in &nodes {
        let partition = kit.partition("user:1").unwrap();
        assert_eq!(partition.id.to_string(), "partition-0");
        let ids = |nodes: Vec<Arc<queuebench_system::cluster::Node>>| -> Vec<String> {
            nodes.iter().map(|node| node.id.to_string()).collect()
        };
        assert_eq!(ids(kit.nodes(&partition)), ["node-3", "node-2", "node-1"]);
        assert_eq!(ids(kit.replicas(&partition)), ["node-2", "node-1"]);
        assert_eq!(ids(kit.nodes_for_key("user:1").unwrap()), ["node-3", "node-2", "node-1"]);
        assert_eq!(ids(kit.replica_nodes("user:1").unwrap()), ["node-2", "node-1"]);
        assert_eq!(kit.primary(&partition).unwrap().id.as_str(), "node-3");
        assert_eq!(kit.primary_node("user:1").unwrap().id.as_str(), "node-3");
        let (primary, replicas) = kit.all_nodes_for_key("user:1").unwrap();
        assert_eq!((primary.id.as_str(), replicas.len()), ("node-3", 2));
        let mine = kit.node_id().as_str() == "node-3";
        assert_eq!((kit.is_primary(&partition), kit.is_replica(&partition)), (mine, !mine));
        assert_eq!(kit.is_primary_for_key("user:1"), mine);
        let role = if mine { PartitionRole::Primary } else { PartitionRole::Replica };
        assert_eq!(kit.responsibility("user:1").unwrap().role, Some(role));
        let listed: Vec<_> = kit.list_partitions().iter().map(|partition| partition.id.0).collect();
        assert_eq!(listed, (0..16).collect::<Vec<_>>());
        assert_eq!(kit.partitions_for_node(kit.node_id()).len(), 16);
        let stats = kit.partition_stats();
        assert_eq!(stats.partitions_per_node.values().copied().collect::<Vec<_>>(), [6, 6, 4]);
        assert_eq!(stats.replicas_per_node.values().copied().collect::<Vec<_>>(), [10, 10, 12]);
        assert_eq!(kit.cluster().unwrap().nodes.len(), 3);
        assert!(kit.health_check().healthy && kit.metrics().node_count == 3);
        assert_eq!(kit.wait_for_leader(Duration::from_secs(5)).await.unwrap(), kit.leader().unwrap());
    }
    let follower = nodes.iter().find(|kit| !kit.is_leader()).unwrap();
    let error = follower.add_voter(follower.node_id(), "127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.to_string(), "only leader can add voters");
    let error = follower.remove_server(follower.node_id()).await.unwrap_err();
    assert_eq!(error.to_string(), "only leader can remove servers");
    let error = follower.create_partitions().await.unwrap_err();
    assert_eq!(error, ChangeError::Refused(Refusal::PartitionsExist));
    let data = serde_json::json!({"key": "a", "value": "eA=="});
    follower.propose_action("set_custom_data", &data).await.unwrap();
    let unknown = follower.propose_action("fly", &Value::Null).await.unwrap_err();
    assert!(unknown.to_string().contains("`fly`"), "{unknown}");
    for kit in &nodes {
        kit.catch_up().await.unwrap();
        assert_eq!(kit.custom_data("a").unwrap(), "x");
        assert_eq!(kit.custom_data_keys(), ["a"]);
        assert_eq!(kit.custom_data("b"), Err(QueryError::UnknownKey("b".to_owned())));
    }
    for kit in nodes {
        kit.stop().await;
    }
}

fn exported(kit: &ClusterKit, directory: &std::path::Path) -> Option<Value> {
    let path = directory.join(kit.node_id().as_str()).join("cluster-state.json");
    // Whoever opens it finds a whole one.
    std::fs::read(path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exported_file_follows_members_partitions_and_custom_data_on_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    for number in 0..50 {
        nodes[number % 3].set_custom_data("counter", number.to_string()).await.unwrap();
    }
    for kit in &nodes {
        until("the file shows it all", || {
            exported(kit, directory.path()).is_some_and(|file| {
                // 49 in base64.
                file["custom_data"]["counter"] == "NDk="
                    && file["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
                    && file["partition_map"]["partitions"].as_object().is_some_and(|all| all.len() == 16)
            })
        })
        .await;
    }
    nodes[0].delete_custom_data("counter").await.unwrap();
    nodes[0].stop().await;
    let last = exported(&nodes[0], directory.path()).unwrap();
    let told = nodes[0].read(|state| state.custom_data().get("counter").is_none());
    assert_eq!(last["custom_data"].is_null(), told, "stopping writes what was applied last");
    for kit in &nodes[1..] {
        kit.stop().await;
    }
}
