use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Cluster, ClusterBody, KeyLocation, NodesPage, PartitionStats, Readiness, Show};
use crate::cluster::{
    bytes64::Base64Bytes,
    command::{AddNode, ClusterConfig, Command, Operation, SetPartitions},
    node::{Member, Node, STATUS_ACTIVE},
    state::State,
};

fn state(members: u32, partition_count: u32) -> State {
    let mut state = State::default();
    let config = ClusterConfig { cluster_name: "c".to_owned(), partition_count, replication_factor: 3 };
    let node = |number: u32| Node {
        id: format!("node-{number}").parse().unwrap(),
        ip: format!(":{}", 8079 + number),
        port: 0,
        name: format!("Server-{number}"),
        status: STATUS_ACTIVE.to_owned(),
        services: BTreeMap::from([("kv".to_owned(), format!(":{}", 9079 + number))]),
        advertise_addr: None,
    };
    let add = |number| {
        let member = Member { node: node(number), raft_id: u64::from(number), raft_addr: ":1".to_owned() };
        Operation::AddNode(AddNode { member, incarnation: Some(1), last_seen: None })
    };
    let mut operations = vec![Operation::InitCluster(config)];
    operations.extend((1..=members).map(add));
    if members >= 3 {
        operations.push(Operation::CreatePartitions(SetPartitions::default()));
    }
    let value = Base64Bytes(b"{}".to_vec().into());
    operations.push(Operation::SetCustomData { key: "flags".to_owned(), value });
    for (index, operation) in (1..).zip(operations) {
        state.apply(index, &Command::new(Timestamp::UNIX_EPOCH, operation)).outcome.unwrap();
    }
    state
}

#[test]
fn the_cluster_is_written_key_for_key() {
    let body = serde_json::to_string(&ClusterBody::of(&state(3, 1)).unwrap()).unwrap();
    let node = |number: u32| {
        format!(
            r#"{{"id":"node-{number}","ip":":{}","port":0,"name":"Server-{number}","status":"active","services":{{"kv":":{}"}}}}"#,
            8079 + number,
            9079 + number
        )
    };
    let expected = format!(
        r#"{{"cluster":{{"id":"c","name":"c","nodes":[{},{},{}],"partition_map":{{"partitions":{{"partition-0":{{"id":"partition-0","primary_node":"node-3","replica_nodes":["node-2","node-1"]}}}}}},"config":{{"cluster_name":"c","partition_count":1,"replication_factor":3}}}},"hash_config":{{"algorithm":"md5","encoding":"big_endian_uint32","modulo":1,"format":"partition-%d"}}}}"#,
        node(1),
        node(2),
        node(3)
    );
    assert_eq!(body, expected);
}

#[test]
fn before_there_are_partitions_lists_are_empty_and_never_null() {
    let body = serde_json::to_string(&ClusterBody::of(&state(0, 16)).unwrap()).unwrap();
    assert!(body.contains(r#""nodes":[],"partition_map":{"partitions":{}}"#), "{body}");
    assert_eq!(ClusterBody::of(&State::default()), None);
}

#[test]
fn partitions_are_in_the_order_of_their_numbers() {
    let body = serde_json::to_string(&ClusterBody::of(&state(3, 16)).unwrap()).unwrap();
    let at = |id: &str| body.find(&format!("\"{id}\":")).unwrap();
    assert!(at("partition-2") < at("partition-10"));
}

#[test]
fn custom_data_is_exported_but_not_shown() {
    let everything = serde_json::to_string(&Cluster::of(&state(3, 1), Show::Everything)).unwrap();
    assert!(everything.contains(r#""custom_data":{"flags":"e30="}"#), "{everything}");
    let shown = serde_json::to_string(&Cluster::of(&state(3, 1), Show::Topology)).unwrap();
    assert!(!shown.contains("custom_data"));
}

#[test]
fn partitions_are_counted_by_node() {
    let stats = PartitionStats::of(state(3, 16).assignment().map(|assignment| &**assignment));
    let counts = |of: &BTreeMap<_, usize>| of.values().copied().collect::<Vec<_>>();
    assert_eq!(stats.total_partitions, 16);
    assert_eq!(counts(&stats.partitions_per_node), [6, 6, 4]);
    assert_eq!(counts(&stats.replicas_per_node), [10, 10, 12]);
}

#[test]
fn ready_means_that_every_partition_is_on_members() {
    let me = "node-1".parse().unwrap();
    let ready = serde_json::to_string(&Readiness::of(&state(3, 16), &me)).unwrap();
    assert_eq!(ready, r#"{"ready":true,"nodes":3,"partitions":16,"valid_partitions":16}"#);
    let early = serde_json::to_string(&Readiness::of(&state(2, 16), &me)).unwrap();
    let expected =
        r#"{"ready":false,"nodes":2,"partitions":0,"valid_partitions":0,"message":"cluster not ready"}"#;
    assert_eq!(early, expected);
    assert!(!Readiness::of(&state(3, 16), &"node-9".parse().unwrap()).ready, "it was removed");
}

#[test]
fn pages_of_nodes_have_bounds() {
    let state = state(5, 16);
    let page = |limit, offset| {
        let page = NodesPage::of(&state, limit, offset);
        (page.nodes.len(), page.offset, page.limit, page.has_more, page.next_offset)
    };
    assert_eq!(page(None, None), (5, 0, 50, false, 5));
    assert_eq!(page(Some("2"), Some("1")), (2, 1, 2, true, 3));
    assert_eq!(page(Some("0"), Some("-3")), (1, 0, 1, true, 1));
    assert_eq!(page(Some("5000"), Some("99")), (0, 99, 1_000, false, 99));
    assert_eq!(page(Some("many"), Some("x")), (5, 0, 50, false, 5));
}

#[test]
fn a_key_is_located() {
    let found = KeyLocation::of(&state(3, 16).topology(), "user:1").unwrap();
    assert_eq!(found.partition.id.0, 0);
    assert_eq!(found.primary.unwrap().id.as_str(), "node-3");
    assert_eq!(found.replicas.len(), 2);
    assert_eq!(KeyLocation::of(&state(2, 16).topology(), "user:1"), None);
}
