//! The picture readers look keys up in: immutable, replaced as a whole when a command has been applied.
//!
//! A reader takes the current picture with one atomic load and never waits for a writer; the cost of a
//! lookup is the key's MD5 (measured by the bench `cluster_lookup`). A picture someone holds stays as it
//! was; memory is bounded by the pictures still held.

use std::{fmt, ops::Deref, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use super::{
    name::{NodeId, PartitionId},
    node::Node,
    placement::{Assignment, partition_of},
};

/// Members and partitions at one point of the log.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    version: u64,
    nodes: Vec<Arc<Node>>,
    assignment: Option<Arc<Assignment>>,
    /// For each partition where its nodes end in `routes`; one longer than there are partitions.
    ends: Box<[u32]>,
    /// Indexes into `nodes`, partition after partition, primary first.
    routes: Box<[u16]>,
}

impl Topology {
    /// A picture of these members and this assignment. Nodes are kept in the order of their ids, so that
    /// every process lists them alike; ids in the assignment that are not members are skipped in lookups.
    #[must_use]
    pub fn new(version: u64, mut nodes: Vec<Arc<Node>>, assignment: Option<Arc<Assignment>>) -> Self {
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes.truncate(usize::from(u16::MAX));
        let mut ends = vec![0];
        let mut routes = Vec::new();
        for (_, placement) in assignment.iter().flat_map(|assignment| assignment.iter()) {
            let known = placement.nodes().iter().filter_map(|id| index_of(&nodes, id));
            routes.extend(known.filter_map(|at| u16::try_from(at).ok()));
            ends.push(u32::try_from(routes.len()).expect("at most 65,536 partitions of 1,024 nodes"));
        }
        Self { version, nodes, assignment, ends: ends.into(), routes: routes.into() }
    }

    /// Grows with every change of members, addresses or assignment, and with nothing else.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All members by id.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// One member.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Arc<Node>> {
        index_of(&self.nodes, id).map(|at| &self.nodes[at])
    }

    /// The assignment, once there is one.
    #[must_use]
    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_deref()
    }

    /// How many partitions have been assigned; 0 before the first assignment.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.ends.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Where a key lives; none while no partition is assigned.
    #[must_use]
    pub fn locate(&self, key: &[u8]) -> Option<Located<'_>> {
        let count = self.partition_count();
        if count == 0 {
            return None;
        }
        self.route(partition_of(key, count))
    }

    /// The nodes of one partition.
    #[must_use]
    pub fn route(&self, partition: PartitionId) -> Option<Located<'_>> {
        let at = partition.index();
        let (from, to) = (*self.ends.get(at)?, *self.ends.get(at + 1)?);
        let routes = self.routes.get(from as usize..to as usize)?;
        Some(Located { partition, nodes: &self.nodes, routes })
    }
}

fn index_of(nodes: &[Arc<Node>], id: &NodeId) -> Option<usize> {
    nodes.binary_search_by(|node| node.id.cmp(id)).ok()
}

/// A partition and the members in charge of it.
#[derive(Clone, Copy)]
pub struct Located<'a> {
    partition: PartitionId,
    nodes: &'a [Arc<Node>],
    routes: &'a [u16],
}

impl<'a> Located<'a> {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Primary first, then the replicas in their order.
    pub fn nodes(&self) -> impl Iterator<Item = &'a Arc<Node>> + use<'a> {
        let nodes = self.nodes;
        self.routes.iter().map(move |at| &nodes[usize::from(*at)])
    }

    /// The first in charge.
    #[must_use]
    pub fn primary(&self) -> Option<&'a Arc<Node>> {
        self.nodes().next()
    }
}

impl fmt::Debug for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.nodes().map(|node| &node.id).collect();
        f.debug_struct("Located").field("partition", &self.partition).field("nodes", &ids).finish()
    }
}

/// Where the current [`Topology`] is found. Reading never waits; writing replaces the whole.
#[derive(Debug, Default)]
pub struct TopologyCell(ArcSwap<Topology>);

impl TopologyCell {
    /// A cell that shows this picture.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        Self(ArcSwap::from_pointee(topology))
    }

    /// The current picture for a short look: cheaper than [`TopologyCell::snapshot`], not to be kept.
    #[must_use]
    pub fn read(&self) -> TopologyRef {
        TopologyRef(self.0.load())
    }

    /// The current picture to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Topology> {
        self.0.load_full()
    }

    /// Shows another picture from now on.
    pub fn publish(&self, topology: Topology) {
        self.0.store(Arc::new(topology));
    }
}

/// A short look at the current [`Topology`].
#[derive(Debug)]
pub struct TopologyRef(Guard<Arc<Topology>>);

impl Deref for TopologyRef {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, thread};

    use super::{Topology, TopologyCell};
    use crate::cluster::{
        name::{NodeId, PartitionId},
        node::{Node, STATUS_ACTIVE},
        placement::Assignment,
    };

    fn node(number: u32) -> Arc<Node> {
        Arc::new(Node {
            id: format!("node-{number}").parse().unwrap(),
            ip: format!(":{}", 8080 + number),
            port: 0,
            name: String::new(),
            status: STATUS_ACTIVE.to_owned(),
            services: BTreeMap::new(),
            advertise_addr: None,
        })
    }

    fn topology(version: u64, numbers: std::ops::RangeInclusive<u32>) -> Topology {
        let nodes: Vec<_> = numbers.rev().map(node).collect();
        let ids: Vec<_> = nodes.iter().map(|node| node.id.clone()).collect();
        Topology::new(version, nodes, Assignment::compute(16, 3, &ids).map(Arc::new))
    }

    fn ids(topology: &Topology, key: &str) -> Vec<NodeId> {
        topology.locate(key.as_bytes()).unwrap().nodes().map(|node| node.id.clone()).collect()
    }

    #[test]
    fn a_key_is_found_where_the_assignment_puts_it() {
        let topology = topology(1, 1..=5);
        let assignment = topology.assignment().unwrap();
        for key in ["user:1", "order:100", "", "a"] {
            let located = topology.locate(key.as_bytes()).unwrap();
            assert_eq!(ids(&topology, key), assignment.get(located.partition()).unwrap().nodes());
        }
        assert!(topology.route(PartitionId(16)).is_none());
    }

    #[test]
    fn without_partitions_no_key_is_found() {
        assert!(Topology::default().locate(b"user:1").is_none());
        assert!(Topology::new(1, vec![node(1)], None).locate(b"user:1").is_none());
    }

    #[test]
    fn a_node_that_is_no_member_is_skipped() {
        let all = topology(1, 1..=3);
        let left = Topology::new(2, vec![node(2), node(3)], all.assignment.clone());
        assert_eq!(left.route(PartitionId(1)).unwrap().primary().unwrap().id.as_str(), "node-2");
    }

    #[test]
    fn readers_never_see_half_a_change() {
        let cell = TopologyCell::new(topology(3, 1..=3));
        let cell = &cell;
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let seen = cell.read();
                        assert_eq!(seen.nodes().len() as u64, seen.version());
                        assert_eq!(seen.locate(b"user:1").unwrap().nodes().count(), 3);
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..200 {
                    let size = 3 + round % 4;
                    cell.publish(topology(u64::from(size), 1..=size));
                }
            });
        });
    }
}
