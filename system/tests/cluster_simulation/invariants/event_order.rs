//! No event out of order: every process is told exactly what its log says, entry after entry without a gap
//! but where it was sent the state and told so, and a rebalance is whole and follows its cause.

use queuebench_system::cluster::{Event, event::StateReplaced};

use crate::{node::SimNode, world::World};

pub(crate) fn check(world: &World) {
    for node in &world.nodes {
        in_log_order(world, node);
    }
    rebalances_are_whole(world);
}

fn in_log_order(world: &World, node: &SimNode) {
    let mut last: Option<u64> = None;
    for (index, events) in &node.told {
        if let [Event::StateReplaced(StateReplaced { from_index, to_index })] = &events[..] {
            assert!(last.is_none_or(|last| last == *from_index), "{} was told of the wrong gap", node.id);
            assert_eq!(to_index, index);
        } else {
            assert!(last.is_none_or(|last| last + 1 == *index), "{} missed events before {index}", node.id);
            let expected = &world.outcomes[usize::try_from(*index).unwrap() - 1].events;
            assert_eq!(**events, *expected, "{} was told otherwise of {index}", node.id);
        }
        last = Some(*index);
    }
}

fn rebalances_are_whole(world: &World) {
    let mut cause = None;
    for event in world.outcomes.iter().flat_map(|applied| &applied.events) {
        match event {
            Event::NodeJoin(join) => cause = Some(join.node.id.clone()),
            Event::NodeRejoin(rejoin) => cause = Some(rejoin.node.id.clone()),
            Event::NodeLeave(leave) => cause = Some(leave.node.id.clone()),
            Event::RebalanceStart(start) if start.trigger_node.is_some() => {
                assert_eq!(start.trigger_node, cause, "a rebalance for somebody else");
            }
            _ => {}
        }
    }
    for applied in &world.outcomes {
        let mut open = false;
        for event in &applied.events {
            match event {
                Event::RebalanceStart(_) => open = true,
                Event::PartitionChange(change) => {
                    assert!(open, "a partition changed outside a rebalance");
                    assert!(change.copy_from.iter().all(|node| node.id != change.copy_to.id));
                }
                Event::RebalanceComplete(_) => {
                    assert!(open, "a rebalance ended that did not begin");
                    open = false;
                }
                _ => assert!(!open, "something else within a rebalance"),
            }
        }
        assert!(!open, "a rebalance did not end");
    }
}
