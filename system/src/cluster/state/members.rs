//! Who comes, comes back and goes.

use std::time::Duration;

use super::{Departed, MAX_DEPARTED, MemberRecord, RebalanceDue, State};
use crate::cluster::{
    command::{AddNode, Outcome, Refusal, RemoveNode},
    event::{Event, NodeJoin, NodeLeave, NodeRejoin, RejoinKind, Trigger},
    name::{NodeId, PartitionId},
    placement::MAX_MEMBERS,
};

impl State {
    pub(super) fn add_node(&mut self, add: &AddNode, events: &mut Vec<Event>) -> Result<Outcome, Refusal> {
        let node = &add.member.node;
        node.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let id = &node.id;
        let known = self.members.get(id);
        if known.is_none() && self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::TooManyMembers(self.members.len()));
        }
        let repeated = known.is_some_and(|known| {
            add.incarnation.is_some()
                && known.incarnation == add.incarnation
                && known.member.raft_id == add.member.raft_id
        });
        let changed = known.is_none_or(|known| known.member != add.member);
        let came_back = if repeated { None } else { self.rejoin(add) };
        let since = known.filter(|_| repeated).map_or(self.clock, |known| known.since);
        let is_new = known.is_none();
        let is_bootstrap = self.members.is_empty() && self.departed.is_empty();
        let record = MemberRecord { member: add.member.clone(), incarnation: add.incarnation, since };
        self.members.insert(id.clone(), record);
        if changed {
            self.touch_topology();
        }
        if let Some(rejoin) = came_back {
            if rejoin.kind != RejoinKind::Restarted {
                self.lost.insert(id.clone());
            }
            self.departed.remove(id);
            events.push(Event::NodeRejoin(rejoin));
        } else if is_new {
            events.push(Event::NodeJoin(NodeJoin {
                node: node.clone(),
                cluster_size: self.members.len(),
                is_bootstrap,
                timestamp: self.clock,
            }));
        }
        if !repeated {
            self.rebalance_after(Trigger::NodeJoin, id);
        }
        let cluster_id = self.cluster.as_ref().map_or_else(String::new, |config| config.cluster_name.clone());
        Ok(Outcome::Joined { cluster_id, node_count: self.members.len() })
    }

    /// The event of a node that was here before; none for a new one.
    fn rejoin(&self, add: &AddNode) -> Option<NodeRejoin> {
        let id = &add.member.node.id;
        let (kind, last_seen_at, partitions) = match (self.members.get(id), self.departed.get(id)) {
            (Some(known), _) => {
                let replaced = known.member.raft_id != add.member.raft_id && add.member.raft_id != 0;
                let kind = if replaced { RejoinKind::Replaced } else { RejoinKind::Restarted };
                let (owned, held) = self.partitions_of(id);
                let last_seen = add.last_seen.unwrap_or(self.clock).clamp(known.since, self.clock);
                (kind, last_seen, merged(owned, held))
            }
            (None, Some(departed)) => (RejoinKind::Returned, departed.at, departed.partitions.clone()),
            (None, None) => return None,
        };
        Some(NodeRejoin {
            node: add.member.node.clone(),
            kind,
            offline: Duration::try_from(self.clock.duration_since(last_seen_at)).unwrap_or_default(),
            last_seen_at,
            partitions_before_leave: partitions,
            timestamp: self.clock,
        })
    }

    pub(super) fn remove_node(
        &mut self,
        remove: &RemoveNode,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        let id = &remove.id;
        let known = self.members.get(id).ok_or_else(|| Refusal::UnknownNode(id.clone()))?;
        if remove.incarnation.is_some() && known.incarnation != remove.incarnation {
            return Err(Refusal::Restarted(id.clone()));
        }
        let node = known.member.node.clone();
        let (partitions_owned, partitions_replica) = self.partitions_of(id);
        let partitions = merged(partitions_owned.clone(), partitions_replica.clone());
        self.members.remove(id);
        self.lost.remove(id);
        self.departed.insert(id.clone(), Departed { at: self.clock, reason: remove.reason, partitions });
        if self.departed.len() > MAX_DEPARTED {
            let oldest = self.departed.iter().min_by_key(|(id, gone)| (gone.at, (*id).clone()));
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.departed.remove(&oldest);
            }
        }
        events.push(Event::NodeLeave(NodeLeave {
            node,
            reason: remove.reason,
            partitions_owned,
            partitions_replica,
            timestamp: self.clock,
        }));
        self.rebalance_after(Trigger::NodeLeave, id);
        self.touch_topology();
        Ok(Outcome::Done)
    }

    /// What a node is primary of, and what it is a replica of.
    #[must_use]
    pub fn partitions_of(&self, node: &NodeId) -> (Vec<PartitionId>, Vec<PartitionId>) {
        let mut owned = Vec::new();
        let mut held = Vec::new();
        for (id, placement) in self.assignment.iter().flat_map(|assignment| assignment.iter()) {
            if placement.primary() == node {
                owned.push(id);
            } else if placement.contains(node) {
                held.push(id);
            }
        }
        (owned, held)
    }

    fn rebalance_after(&mut self, trigger: Trigger, node: &NodeId) {
        if self.assignment.is_none() {
            return;
        }
        let due = self.rebalance_due.take();
        let several =
            due.as_ref().is_some_and(|due| due.several || due.node != *node || due.trigger != trigger);
        let since = due.map_or(self.clock, |due| due.since);
        self.rebalance_due =
            Some(RebalanceDue { trigger, node: node.clone(), since, latest: self.clock, several });
    }
}

fn merged(mut owned: Vec<PartitionId>, held: Vec<PartitionId>) -> Vec<PartitionId> {
    owned.extend(held);
    owned.sort_unstable();
    owned
}
