//! What two assignments differ in, as orders to copy data, and as a plan for people.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    command::Partition,
    event::{ChangeReason, PartitionChange},
    name::{NodeId, PartitionId},
    node::{Member, Node},
    placement::{Assignment, Placement},
};

/// One order: who gets a partition's data, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) partition: PartitionId,
    pub(super) to: NodeId,
    pub(super) from: Vec<NodeId>,
    pub(super) already_holder: bool,
    pub(super) old_primary: NodeId,
    pub(super) new_primary: NodeId,
}

/// The orders that lead from one assignment to another. Partitions that are only in one of them have none.
///
/// `lost` are nodes whose data is gone although they are listed: they are targets as if new, never sources.
pub(super) fn moves(before: &Assignment, after: &Assignment, lost: &BTreeSet<NodeId>) -> Vec<Move> {
    let pairs = before.iter().zip(after.iter());
    pairs.flat_map(|((id, before), (_, after))| moves_of(id, before, after, lost)).collect()
}

fn moves_of(
    partition: PartitionId,
    before: &Placement,
    after: &Placement,
    lost: &BTreeSet<NodeId>,
) -> Vec<Move> {
    let holds = |node: &NodeId| before.contains(node) && !lost.contains(node);
    let primary_changed = before.primary() != after.primary() || lost.contains(after.primary());
    let was_replica = |node: &NodeId| before.replicas().contains(node) && !lost.contains(node);
    let new_primary = primary_changed.then_some(after.primary());
    let new_replicas = after.replicas().iter().filter(|node| !was_replica(node));
    let to_move = |to: &NodeId| {
        let source = |node: &&NodeId| {
            *node != to && holds(node) && (*node == before.primary() || *node != after.primary())
        };
        Move {
            partition,
            to: to.clone(),
            from: before.nodes().iter().filter(source).cloned().collect(),
            already_holder: holds(to),
            old_primary: before.primary().clone(),
            new_primary: after.primary().clone(),
        }
    };
    new_primary.into_iter().chain(new_replicas).map(to_move).collect()
}

/// Fills the orders with what is known of the members; sources that are none any more are left out.
pub(super) fn to_events(
    moves: Vec<Move>,
    members: &BTreeMap<&NodeId, &Member>,
    reason: ChangeReason,
    timestamp: Timestamp,
) -> Vec<PartitionChange> {
    let node = |id: &NodeId| -> Option<Node> { members.get(id).map(|member| member.node.clone()) };
    let to_event = |order: Move| {
        Some(PartitionChange {
            partition: order.partition,
            copy_from: order.from.iter().filter_map(node).collect(),
            copy_to: node(&order.to)?,
            already_holder: order.already_holder,
            reason,
            old_primary: order.old_primary,
            new_primary: order.new_primary,
            timestamp,
        })
    };
    moves.into_iter().filter_map(to_event).collect()
}

/// What a rebalance would do, to be looked at before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RebalancePlan {
    /// What it was made for; a rebalance that names it is refused once it is overtaken.
    pub topology_version: u64,
    /// How many partitions there are.
    pub partitions: usize,
    /// The partitions that change.
    pub changes: Vec<PlannedChange>,
    /// How many copies of a partition have to be made.
    pub copies: usize,
}

/// One partition that a rebalance would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedChange {
    /// As it is.
    pub before: Partition,
    /// As it would be.
    pub after: Partition,
    /// Who would have to copy it.
    pub copy_to: Vec<NodeId>,
}

impl RebalancePlan {
    /// The plan that leads from one assignment to another.
    pub(super) fn new(
        topology_version: u64,
        before: &Assignment,
        after: &Assignment,
        lost: &BTreeSet<NodeId>,
    ) -> Self {
        let change = |((id, before), (_, after)): ((PartitionId, &Placement), (PartitionId, &Placement))| {
            let moves = moves_of(id, before, after, lost).into_iter();
            let copy_to: Vec<_> = moves.filter(|order| !order.already_holder).map(|order| order.to).collect();
            let changed = before != after || !copy_to.is_empty();
            changed.then(|| PlannedChange {
                before: Partition::of(id, before),
                after: Partition::of(id, after),
                copy_to,
            })
        };
        let changes: Vec<_> = before.iter().zip(after.iter()).filter_map(change).collect();
        let copies = changes.iter().map(|change| change.copy_to.len()).sum();
        Self { topology_version, partitions: after.len(), changes, copies }
    }

    /// Whose partitions change.
    #[must_use]
    pub fn nodes_affected(&self) -> Vec<NodeId> {
        let of = |partition: &Partition| partition.nodes().cloned().collect::<Vec<_>>();
        let nodes = self.changes.iter().flat_map(|change| [of(&change.before), of(&change.after)]);
        nodes.flatten().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::moves;
    use crate::cluster::{
        name::NodeId,
        placement::{Assignment, Placement},
    };

    fn ids(text: &str) -> Vec<NodeId> {
        text.split(' ').filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect()
    }

    fn one(text: &str) -> Assignment {
        Assignment::from_placements(vec![Placement::new(ids(text)).unwrap()]).unwrap()
    }

    /// (target, sources, holds it already) of each order.
    fn orders(before: &str, after: &str, lost: &str) -> Vec<(String, String, bool)> {
        let lost: BTreeSet<_> = ids(lost).into_iter().collect();
        let text = |from: &[NodeId]| from.iter().map(NodeId::as_str).collect::<Vec<_>>().join(" ");
        let moves = moves(&one(before), &one(after), &lost).into_iter();
        moves.map(|order| (order.to.to_string(), text(&order.from), order.already_holder)).collect()
    }

    fn order(to: &str, from: &str, already: bool) -> (String, String, bool) {
        (to.to_owned(), from.to_owned(), already)
    }

    #[test]
    fn nothing_changes_nothing_moves() {
        assert_eq!(orders("a b c", "a b c", ""), []);
        assert_eq!(orders("a b c", "a c b", ""), [], "only the order of replicas changed");
    }

    #[test]
    fn a_new_primary_copies_from_all_who_had_it() {
        assert_eq!(
            orders("a b c", "d a b", ""),
            [order("d", "a b c", false), order("a", "b c", true)],
            "the demoted primary is told too, but holds it"
        );
    }

    #[test]
    fn a_promoted_replica_holds_it_and_is_no_source() {
        assert_eq!(orders("a b c", "b c d", ""), [order("b", "a c", true), order("d", "a c", false)]);
    }

    #[test]
    fn a_node_that_lost_its_data_is_a_target_and_no_source() {
        assert_eq!(orders("a b c", "a b c", "b"), [order("b", "a c", false)]);
        assert_eq!(orders("a b c", "a b c", "a"), [order("a", "b c", false)]);
        assert_eq!(orders("a b c", "d a b", "c"), [order("d", "a b", false), order("a", "b", true)]);
    }
}
