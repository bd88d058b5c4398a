use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;

use super::State;
use crate::cluster::{
    Assignment,
    bytes64::Base64Bytes,
    command::{
        AddNode, ClusterConfig, Command, LeaveReason, Operation, Outcome, Refusal, RemoveNode, SetPartitions,
        UpdatePartition,
    },
    event::{ChangeReason, Event, RejoinKind, Trigger},
    name::{NodeId, PartitionId},
    node::{Member, Node, STATUS_ACTIVE},
};

fn id(number: u32) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

fn add(number: u32, raft_id: u64, incarnation: u64) -> Operation {
    let node = Node {
        id: id(number),
        ip: format!(":{}", 8080 + number),
        port: 0,
        name: format!("Server-{number}"),
        status: STATUS_ACTIVE.to_owned(),
        services: BTreeMap::new(),
        advertise_addr: None,
    };
    let member = Member { node, raft_id, raft_addr: format!("127.0.0.1:{}", 10_000 + number) };
    Operation::AddNode(AddNode { member, incarnation: Some(incarnation), last_seen: None })
}

fn remove(number: u32) -> Operation {
    Operation::RemoveNode(RemoveNode {
        id: id(number),
        reason: LeaveReason::HealthCheckFailure,
        incarnation: None,
    })
}

fn rebalance() -> Operation {
    Operation::RebalancePartitions(SetPartitions::default())
}

/// A state, its log position, and a clock that moves a second per command.
#[derive(Default)]
struct Cluster {
    state: State,
    index: u64,
}

impl Cluster {
    fn of(members: u32, partitions: u32) -> Self {
        let mut cluster = Self::default();
        let config = ClusterConfig {
            cluster_name: "c".to_owned(),
            partition_count: partitions,
            replication_factor: 3,
        };
        cluster.done(Operation::InitCluster(config));
        for number in 1..=members {
            cluster.done(add(number, u64::from(number), 1));
        }
        cluster
    }

    fn with_partitions(members: u32) -> Self {
        let mut cluster = Self::of(members, 16);
        cluster.done(Operation::CreatePartitions(SetPartitions::default()));
        cluster
    }

    fn apply(&mut self, operation: Operation) -> (Result<Outcome, Refusal>, Vec<Event>) {
        self.index += 1;
        let at = Timestamp::from_second(1_700_000_000 + i64::try_from(self.index).unwrap()).unwrap();
        let applied = self.state.apply(self.index, &Command::new(at, operation));
        (applied.outcome, applied.events)
    }

    fn done(&mut self, operation: Operation) -> Vec<Event> {
        let (outcome, events) = self.apply(operation);
        outcome.unwrap();
        events
    }

    fn expected(&self) -> Assignment {
        let ids: Vec<_> = self.state.members().keys().cloned().collect();
        Assignment::compute(16, 3, &ids).unwrap()
    }
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::NodeJoin(_) => "join",
        Event::NodeRejoin(_) => "rejoin",
        Event::NodeLeave(_) => "leave",
        Event::RebalanceStart(_) => "start",
        Event::PartitionChange(_) => "change",
        Event::RebalanceComplete(_) => "complete",
        Event::LeaseEnd(_) => "lease",
        Event::HealthChange(_) => "health",
        Event::StateReplaced(_) => "replaced",
    };
    let mut kinds: Vec<_> = events.iter().map(kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn the_first_member_is_the_bootstrap() {
    let mut cluster = Cluster::of(0, 16);
    let first = cluster.done(add(1, 1, 1));
    assert!(matches!(&first[..], [Event::NodeJoin(join)] if join.is_bootstrap && join.cluster_size == 1));
    let second = cluster.done(add(2, 2, 1));
    assert!(matches!(&second[..], [Event::NodeJoin(join)] if !join.is_bootstrap && join.cluster_size == 2));
}

#[test]
fn partitions_wait_for_enough_members() {
    let mut cluster = Cluster::of(2, 16);
    let create = || Operation::CreatePartitions(SetPartitions::default());
    let refused = cluster.apply(create()).0.unwrap_err();
    assert_eq!(refused.to_string(), "not enough nodes (2) for replication factor (3)");
    assert_eq!(cluster.apply(rebalance()).0.unwrap_err().to_string(), "partition map not initialized");
    cluster.done(add(3, 3, 1));
    assert_eq!(cluster.done(create()), [], "what did not exist before did not change");
    assert_eq!(**cluster.state.assignment().unwrap(), cluster.expected());
    assert_eq!(cluster.apply(create()).0, Err(Refusal::PartitionsExist));
}

#[test]
fn a_join_is_told_before_its_rebalance() {
    let mut cluster = Cluster::with_partitions(3);
    let mut events = cluster.done(add(4, 4, 1));
    assert_eq!(cluster.state.rebalance_due().map(|due| due.trigger), Some(Trigger::NodeJoin));
    events.extend(cluster.done(rebalance()));
    assert_eq!(kinds(&events), ["join", "start", "change", "complete"]);
    assert_eq!(cluster.state.rebalance_due(), None);
    assert_eq!(**cluster.state.assignment().unwrap(), cluster.expected());
    for event in &events {
        if let Event::PartitionChange(change) = event {
            assert_eq!(change.reason, ChangeReason::NodeJoin);
            assert_eq!(change.already_holder, change.copy_to.id != id(4));
            assert!(!change.copy_from.is_empty());
        }
    }
    let Some(Event::RebalanceComplete(complete)) = events.last() else { panic!("no completion") };
    assert_eq!(complete.duration, Duration::from_secs(1));
}

#[test]
fn a_leave_shrinks_the_replicas_rather_than_failing() {
    let mut cluster = Cluster::with_partitions(3);
    let mut events = cluster.done(remove(3));
    let Event::NodeLeave(leave) = &events[0] else { panic!("not a leave") };
    assert_eq!((leave.partitions_owned.len(), leave.partitions_replica.len()), (4, 12));
    events.extend(cluster.done(rebalance()));
    assert_eq!(kinds(&events), ["leave", "start", "change", "complete"]);
    assert!(cluster.state.assignment().unwrap().iter().all(|(_, placement)| placement.nodes().len() == 2));
    let copies = |event: &Event| matches!(event, Event::PartitionChange(change) if !change.already_holder);
    assert!(!events.iter().any(copies), "everybody left holds everything");
}

#[test]
fn a_removed_node_that_returns_gets_its_data_again_even_before_a_rebalance() {
    let mut cluster = Cluster::with_partitions(4);
    cluster.done(remove(2));
    let mut events = cluster.done(add(2, 2, 2));
    events.extend(cluster.done(rebalance()));
    assert_eq!(kinds(&events), ["rejoin", "start", "change", "complete"]);
    let Event::NodeRejoin(rejoin) = &events[0] else { panic!("not a rejoin") };
    assert_eq!((rejoin.kind, rejoin.offline), (RejoinKind::Returned, Duration::from_secs(1)));
    let copied: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::PartitionChange(change) if !change.already_holder => {
                assert!(change.copy_from.iter().all(|node| node.id != id(2)));
                assert_eq!((&change.copy_to.id, change.reason), (&id(2), ChangeReason::Rebalance));
                Some(change.partition)
            }
            _ => None,
        })
        .collect();
    assert_eq!(copied, rejoin.partitions_before_leave);
}

#[test]
fn a_restart_keeps_the_data_and_a_replacement_does_not() {
    let mut cluster = Cluster::with_partitions(3);
    let version = cluster.state.topology_version();
    assert_eq!(cluster.done(add(2, 2, 1)), [], "the same start again is a repeated request");
    let mut events = cluster.done(add(2, 2, 2));
    assert!(matches!(&events[0], Event::NodeRejoin(rejoin) if rejoin.kind == RejoinKind::Restarted));
    events.extend(cluster.done(rebalance()));
    assert_eq!(kinds(&events), ["rejoin", "start", "complete"]);
    assert_eq!(cluster.state.topology_version(), version);
    let mut events = cluster.done(add(2, 99, 3));
    assert!(matches!(&events[0], Event::NodeRejoin(rejoin) if rejoin.kind == RejoinKind::Replaced));
    events.extend(cluster.done(rebalance()));
    let to_2 = |event: &&Event| matches!(event, Event::PartitionChange(change) if change.copy_to.id == id(2));
    assert_eq!(events.iter().filter(to_2).count(), 16);
}

#[test]
fn a_removal_decided_before_a_restart_does_not_hit_the_restarted() {
    let mut cluster = Cluster::with_partitions(3);
    cluster.done(add(2, 2, 2));
    let late = RemoveNode { id: id(2), reason: LeaveReason::HealthCheckFailure, incarnation: Some(1) };
    assert_eq!(cluster.apply(Operation::RemoveNode(late)).0, Err(Refusal::Restarted(id(2))));
    assert_eq!(cluster.apply(remove(9)).0, Err(Refusal::UnknownNode(id(9))));
}

#[test]
fn a_plan_is_what_then_happens_or_is_refused() {
    let mut cluster = Cluster::with_partitions(3);
    cluster.done(add(4, 4, 1));
    let plan = cluster.state.plan_rebalance().unwrap();
    let planned = |version| {
        let set = SetPartitions { partitions: None, if_topology_version: Some(version) };
        Operation::RebalancePartitions(set)
    };
    let (outcome, events) = cluster.apply(planned(plan.topology_version));
    assert_eq!(outcome, Ok(Outcome::Assigned { changed: plan.changes.len() }));
    let copies = |event: &&Event| matches!(event, Event::PartitionChange(change) if !change.already_holder);
    assert_eq!(events.iter().filter(copies).count(), plan.copies);
    for change in &plan.changes {
        let now = cluster.state.assignment().unwrap().get(change.after.id).unwrap();
        assert!(change.after.nodes().eq(now.nodes()));
    }
    let refused = cluster.apply(planned(plan.topology_version)).0;
    assert!(matches!(refused, Err(Refusal::PlanOvertaken { .. })));
    let leaving = cluster.state.plan_for(&[id(1), id(2), id(3)]).unwrap();
    assert!(leaving.changes.iter().all(|change| change.before.nodes().any(|node| *node == id(4))));
}

#[test]
fn one_partition_may_be_patched_until_the_next_rebalance() {
    let mut cluster = Cluster::with_partitions(3);
    let patch = |replica_nodes| {
        let (id, primary_node) = (PartitionId(0), None);
        Operation::UpdatePartition(UpdatePartition { id, primary_node, replica_nodes: Some(replica_nodes) })
    };
    assert_eq!(cluster.apply(patch(vec![id(9)])).0, Err(Refusal::UnknownNode(id(9))));
    assert!(matches!(cluster.apply(patch(vec![id(3)])).0, Err(Refusal::Invalid(_))), "its primary again");
    cluster.done(patch(vec![id(1)]));
    assert_eq!(cluster.state.assignment().unwrap().get(PartitionId(0)).unwrap().nodes(), [id(3), id(1)]);
    cluster.done(rebalance());
    assert_eq!(**cluster.state.assignment().unwrap(), cluster.expected());
}

#[test]
fn a_clusters_numbers_never_change() {
    let mut cluster = Cluster::of(1, 16);
    let config = |partition_count| {
        let cluster_name = "c".to_owned();
        Operation::InitCluster(ClusterConfig { cluster_name, partition_count, replication_factor: 3 })
    };
    cluster.done(config(16));
    assert_eq!(cluster.apply(config(32)).0, Err(Refusal::OtherCluster("c".to_owned())));
}

#[test]
fn an_entry_of_a_later_version_changes_nothing() {
    let mut cluster = Cluster::of(1, 16);
    let mut command = Command::new(cluster.state.clock(), remove(1));
    command.version = 2;
    assert_eq!(cluster.state.apply(9, &command).outcome, Err(Refusal::Version(2)));
    assert_eq!(cluster.state.members().len(), 1);
}

#[test]
fn only_the_state_of_a_cluster_is_read_from_a_snapshot() {
    let cluster = Cluster::with_partitions(3);
    let bytes = cluster.state.to_snapshot().unwrap();
    assert_eq!(State::from_snapshot(&bytes).unwrap(), cluster.state);
    assert!(State::from_snapshot(&bytes[..bytes.len() - 1]).is_err());
    assert!(State::from_snapshot(&State::default().to_snapshot().unwrap()).is_err());
    let text = String::from_utf8(bytes).unwrap().replace("\"partition_count\":16", "\"partition_count\":8");
    assert!(State::from_snapshot(text.as_bytes()).is_err());
}

fn operations() -> impl Strategy<Value = Operation> {
    let key = || proptest::sample::select(vec!["", "a", "b", "../c", "d/e"]).prop_map(str::to_owned);
    let lease = || proptest::sample::select(vec!["l1", "l2", "l3"]).prop_map(str::to_owned);
    prop_oneof![
        (1_u32..7, 1_u64..4, 1_u64..4).prop_map(|(number, raft, start)| add(number, raft, start)),
        (1_u32..7).prop_map(remove),
        Just(Operation::CreatePartitions(SetPartitions::default())),
        Just(rebalance()),
        (0_u32..20, proptest::option::of(1_u32..7), proptest::collection::vec(1_u32..7, 0..3)).prop_map(
            |(partition, primary, replicas)| Operation::UpdatePartition(UpdatePartition {
                id: PartitionId(partition),
                primary_node: primary.map(id),
                replica_nodes: Some(replicas.into_iter().map(id).collect()),
            })
        ),
        (key(), 0_usize..9).prop_map(|(key, size)| Operation::SetCustomData {
            key,
            value: Base64Bytes(vec![1; size].into())
        }),
        key().prop_map(Operation::DeleteCustomData),
        (lease(), 0_u64..20_000).prop_map(|(lease, ttl_ms)| Operation::GrantLease {
            owner: lease.clone(),
            lease,
            ttl_ms
        }),
        lease().prop_map(Operation::KeepLease),
        lease().prop_map(Operation::RevokeLease),
        (key(), lease()).prop_map(|(lock, lease)| Operation::AcquireLock { lock, lease }),
        (key(), lease()).prop_map(|(lock, lease)| Operation::ReleaseLock { lock, lease }),
        (1_u32..7, 1_u64..9).prop_map(|(leader, term)| Operation::LeaderStarted { leader: id(leader), term }),
        Just(Operation::ExpireLeases {}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same commands lead to the same state and events, through JSON and over a snapshot at any point.
    #[test]
    fn applying_is_a_function_of_state_and_command(
        commands in proptest::collection::vec(operations(), 1..60),
        cut in 0_usize..60,
    ) {
        let mut first = Cluster::of(3, 16);
        let mut second = Cluster::of(3, 16);
        for (at, operation) in commands.into_iter().enumerate() {
            if at == cut {
                second.state = State::from_snapshot(&second.state.to_snapshot().unwrap()).unwrap();
            }
            let read: Operation = serde_json::from_str(&serde_json::to_string(&operation).unwrap()).unwrap();
            prop_assert_eq!(&read, &operation);
            prop_assert_eq!(first.apply(operation), second.apply(read));
            prop_assert_eq!(&first.state, &second.state);
        }
    }

    /// A refused command changes no member, partition, value or lock, and tells only of leases that ended.
    #[test]
    fn a_refused_command_changes_nothing(commands in proptest::collection::vec(operations(), 1..60)) {
        let mut cluster = Cluster::of(3, 16);
        let mut tokens = 0;
        for operation in commands {
            let before = cluster.state.clone();
            let (outcome, events) = cluster.apply(operation);
            match outcome {
                Err(_) => {
                    prop_assert_eq!(cluster.state.members(), before.members());
                    prop_assert_eq!(cluster.state.assignment(), before.assignment());
                    prop_assert_eq!(cluster.state.custom_data(), before.custom_data());
                    prop_assert_eq!(cluster.state.topology_version(), before.topology_version());
                    prop_assert!(kinds(&events).iter().all(|kind| *kind == "lease"));
                }
                Ok(Outcome::Lock { token }) => {
                    let again = before.leases().locks().any(|(_, lock)| lock.token == token);
                    prop_assert!(again || token > tokens);
                    tokens = tokens.max(token);
                }
                Ok(_) => {}
            }
        }
    }
}
