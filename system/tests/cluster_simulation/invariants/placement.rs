//! Each partition has exactly one primary and min(R, members) distinct nodes, all of them living members;
//! and a member that came or went changed only the partitions in which it ranks among the first R.

use std::collections::BTreeSet;

use queuebench_system::cluster::{Assignment, Operation, Placement, State, event::Trigger};

use crate::{consensus::Entry, storm::REPLICATION_FACTOR, world::World};

pub(crate) fn check(world: &World) {
    let members = world.oracle.members();
    let assignment = world.oracle.assignment().expect("a settled cluster has partitions");
    for (id, placement) in assignment.iter() {
        let distinct: BTreeSet<_> = placement.nodes().iter().collect();
        assert_eq!(distinct.len(), placement.nodes().len(), "{id} names a node twice");
        assert_eq!(distinct.len(), REPLICATION_FACTOR.min(members.len()), "{id} has too few or too many");
        for node in distinct {
            let at = world.index_of(node).expect("a known node");
            assert!(members.contains_key(node) && world.nodes[at].awake(world.now), "{id} is on {node}");
        }
    }
    replay(world);
}

/// Goes through the log again and looks at every rebalance that one node alone set off.
fn replay(world: &World) {
    let mut state = State::default();
    for (at, entry) in world.log.iter().enumerate() {
        let Entry::Command(command) = entry else { continue };
        let before = state.assignment().cloned();
        let due = state.rebalance_due().cloned();
        let applied = state.apply(at as u64 + 1, command);
        assert_eq!(applied, world.outcomes[at], "entry {at} came out otherwise the second time");
        let rebalanced =
            matches!(command.operation, Operation::RebalancePartitions(_)) && applied.outcome.is_ok();
        if let (true, Some(before), Some(due), Some(after)) = (rebalanced, before, due, state.assignment())
            && !due.several
        {
            let pairs = before.iter().zip(after.iter());
            for ((id, before), (_, after)) in pairs.filter(|((_, before), (_, after))| before != after) {
                let ranks = |placement: &Placement| placement.contains(&due.node);
                let right = match due.trigger {
                    Trigger::NodeJoin => ranks(after),
                    Trigger::NodeLeave => ranks(before),
                    Trigger::Manual => false,
                };
                assert!(right, "{} by {} changed {id}, where it does not rank", due.node, command.timestamp);
            }
        }
        let ids: Vec<_> = state.members().keys().cloned().collect();
        if rebalanced {
            let expected = Assignment::compute(16, REPLICATION_FACTOR, &ids);
            assert_eq!(state.assignment().map(|assignment| &**assignment), expected.as_ref());
        }
    }
}
