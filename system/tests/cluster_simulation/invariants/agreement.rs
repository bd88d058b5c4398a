//! All nodes converge: the same state everywhere, the assignment is the one the members lead to, and the
//! votes are the members'.

use std::collections::BTreeSet;

use queuebench_system::cluster::Assignment;

use crate::{node::Intent, storm::REPLICATION_FACTOR, world::World};

pub(crate) fn check(world: &World) {
    for node in world.nodes.iter().filter(|node| node.intent == Intent::Member) {
        assert_eq!(node.state, world.oracle, "{} has another state", node.id);
    }
    let ids: Vec<_> = world.oracle.members().keys().cloned().collect();
    let expected = Assignment::compute(16, REPLICATION_FACTOR, &ids);
    assert_eq!(world.oracle.assignment().map(|assignment| &**assignment), expected.as_ref());
    let votes: BTreeSet<_> = world.oracle.members().values().map(|known| known.member.raft_id).collect();
    assert_eq!(votes, world.voters);
}
