//! Assigning the partitions to the members.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::State;
use crate::cluster::{
    changes::{RebalancePlan, moves, to_events},
    command::{ClusterConfig, Outcome, Partition, Refusal, SetPartitions, UpdatePartition},
    event::{ChangeReason, Event, Rebalance, RebalanceComplete, Trigger},
    name::{NodeId, PartitionId},
    node::Member,
    placement::{Assignment, Placement},
};

impl State {
    /// What a rebalance would do now.
    ///
    /// # Errors
    ///
    /// When no partitions have been created, or there is no member.
    pub fn plan_rebalance(&self) -> Result<RebalancePlan, Refusal> {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        self.plan_for(&ids)
    }

    /// What a rebalance would do if these were the members.
    ///
    /// # Errors
    ///
    /// As [`State::plan_rebalance`].
    pub fn plan_for(&self, members: &[NodeId]) -> Result<RebalancePlan, Refusal> {
        let before = self.assignment.as_ref().ok_or(Refusal::NoPartitions)?;
        let after = self.compute(members)?;
        Ok(RebalancePlan::new(self.topology_version, before, &after, &self.lost))
    }

    pub(super) fn create_partitions(&mut self, set: &SetPartitions) -> Result<Outcome, Refusal> {
        let config = self.config()?;
        let (nodes, replication_factor) = (self.members.len(), config.replication_factor);
        if self.assignment.is_some() {
            return Err(Refusal::PartitionsExist);
        }
        if nodes < replication_factor {
            return Err(Refusal::NotEnoughNodes { nodes, replication_factor });
        }
        self.check_plan(set)?;
        let ids: Vec<_> = self.members.keys().cloned().collect();
        let mut assignment = self.compute(&ids)?;
        for (id, given) in set.partitions.iter().flatten() {
            // An unknown primary leaves the computed placement; unknown replicas are dropped.
            if self.members.contains_key(&given.primary_node) {
                let known = given.nodes().filter(|node| self.members.contains_key(node));
                put(&mut assignment, *id, known.cloned().collect())?;
            }
        }
        let changed = assignment.len();
        self.assignment = Some(Arc::new(assignment));
        self.lost.clear();
        self.touch_topology();
        Ok(Outcome::Assigned { changed })
    }

    pub(super) fn rebalance_partitions(
        &mut self,
        set: &SetPartitions,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        self.config()?;
        let before = self.assignment.clone().ok_or(Refusal::NoPartitions)?;
        self.check_plan(set)?;
        let after = match &set.partitions {
            None => {
                let ids: Vec<_> = self.members.keys().cloned().collect();
                self.compute(&ids)?
            }
            Some(given) => self.overlay(&before, given)?,
        };
        // An explicit assignment settles no join or leave: their rebalance still follows.
        let due = if set.partitions.is_none() { self.rebalance_due.take() } else { None };
        let (trigger, reason) = match &due {
            None => (Trigger::Manual, ChangeReason::Manual),
            Some(due) if due.several => (due.trigger, ChangeReason::Rebalance),
            Some(due) if due.trigger == Trigger::NodeJoin => (due.trigger, ChangeReason::NodeJoin),
            Some(due) => (due.trigger, ChangeReason::NodeLeave),
        };
        let duration = due.as_ref().map(|due| self.clock.duration_since(due.since));
        let trigger_node = due.map(|due| due.node);
        Ok(self.reassign(&before, after, (trigger, reason), trigger_node, duration, events))
    }

    pub(super) fn update_partition(
        &mut self,
        patch: &UpdatePartition,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        let before = self.assignment.clone().ok_or(Refusal::NoPartitions)?;
        let old = before.get(patch.id).ok_or(Refusal::UnknownPartition(patch.id))?;
        let primary_node = patch.primary_node.clone().unwrap_or_else(|| old.primary().clone());
        let replica_nodes = patch.replica_nodes.clone().unwrap_or_else(|| old.replicas().to_vec());
        let given = Partition { id: patch.id, primary_node, replica_nodes };
        if let Some(unknown) = given.nodes().find(|node| !self.members.contains_key(node)) {
            return Err(Refusal::UnknownNode(unknown.clone()));
        }
        let after = self.overlay(&before, &[(patch.id, given)].into())?;
        Ok(self.reassign(&before, after, (Trigger::Manual, ChangeReason::Manual), None, None, events))
    }

    fn reassign(
        &mut self,
        before: &Assignment,
        after: Assignment,
        (trigger, reason): (Trigger, ChangeReason),
        trigger_node: Option<NodeId>,
        since_trigger: Option<jiff::SignedDuration>,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let plan = RebalancePlan::new(self.topology_version, before, &after, &self.lost);
        let rebalance = Rebalance {
            trigger,
            trigger_node,
            partitions_to_move: plan.changes.len(),
            nodes_affected: plan.nodes_affected(),
            timestamp: self.clock,
        };
        let members: BTreeMap<&NodeId, &Member> =
            self.members.iter().map(|(id, record)| (id, &record.member)).collect();
        let orders = to_events(moves(before, &after, &self.lost), &members, reason, self.clock);
        events.push(Event::RebalanceStart(rebalance.clone()));
        events.extend(orders.into_iter().map(Box::new).map(Event::PartitionChange));
        let duration = since_trigger.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
        events.push(Event::RebalanceComplete(RebalanceComplete { rebalance, duration }));
        self.lost.clear();
        if *before != after {
            self.assignment = Some(Arc::new(after));
            self.touch_topology();
        }
        Outcome::Assigned { changed: plan.changes.len() }
    }

    /// The assignment with some partitions replaced; entries that name an unknown node are skipped whole.
    fn overlay(
        &self,
        before: &Assignment,
        given: &BTreeMap<PartitionId, Partition>,
    ) -> Result<Assignment, Refusal> {
        let mut after = before.clone();
        for (id, partition) in given {
            let known = partition.nodes().all(|node| self.members.contains_key(node));
            if known && before.get(*id).is_some() {
                put(&mut after, *id, partition.nodes().cloned().collect())?;
            }
        }
        Ok(after)
    }

    fn compute(&self, members: &[NodeId]) -> Result<Assignment, Refusal> {
        let config = self.config()?;
        let replication_factor = config.replication_factor;
        Assignment::compute(config.partition_count, replication_factor, members)
            .ok_or(Refusal::NotEnoughNodes { nodes: 0, replication_factor })
    }

    fn check_plan(&self, set: &SetPartitions) -> Result<(), Refusal> {
        let now = self.topology_version;
        match set.if_topology_version {
            Some(planned) if planned != now => Err(Refusal::PlanOvertaken { planned, now }),
            _ => Ok(()),
        }
    }

    fn config(&self) -> Result<&ClusterConfig, Refusal> {
        self.cluster.as_ref().ok_or(Refusal::NotInitialized)
    }
}

fn put(assignment: &mut Assignment, id: PartitionId, nodes: Vec<NodeId>) -> Result<(), Refusal> {
    let placement = Placement::new(nodes)
        .ok_or_else(|| Refusal::Invalid(format!("{id} names a node twice, or no node at all")))?;
    if assignment.replace(id, placement) { Ok(()) } else { Err(Refusal::UnknownPartition(id)) }
}
