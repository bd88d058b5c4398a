//! Key → partition → nodes, as a pure function of the member ids.
//!
//! The hash, the partition ids and the order of nodes are a contract with clients in other languages: a key
//! belongs to the partition that its MD5 names, and a partition to the nodes with the lowest scores
//! (rendezvous hashing). So no table has to be shared for two processes to agree, and a member that comes
//! or goes changes only the partitions in which it ranks among the first R.
//!
//! Work is bounded by partitions × members hashes; nothing is kept between calls.

use serde::{Deserialize, Serialize};

use super::name::{NodeId, PartitionId};

mod digest;

/// The most partitions a cluster can have.
pub const MAX_PARTITIONS: u32 = 65_536;

/// The most members a cluster can have.
pub const MAX_MEMBERS: usize = 1_024;

/// The first four bytes of the key's MD5 as an unsigned big-endian number.
#[must_use]
pub fn key_hash(key: &[u8]) -> u32 {
    digest::leading_u32(key)
}

/// The partition a key belongs to.
///
/// # Panics
///
/// When `partition_count` is 0: a cluster without partitions has none for a key.
#[must_use]
pub fn partition_of(key: &[u8], partition_count: u32) -> PartitionId {
    assert!(partition_count > 0, "a key needs at least one partition");
    PartitionId(key_hash(key) % partition_count)
}

/// How near a node is to a partition: the lowest scores own it.
#[must_use]
pub fn score(partition: PartitionId, node: &NodeId) -> u32 {
    key_hash(format!("{partition}{node}").as_bytes())
}

/// The nodes of one partition: the primary first, then the replicas in their order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct Placement {
    nodes: Vec<NodeId>,
}

impl Placement {
    /// A placement of the given nodes, the first of them primary; none if there is none, or one is twice.
    #[must_use]
    pub fn new(nodes: Vec<NodeId>) -> Option<Self> {
        let distinct = nodes.iter().enumerate().all(|(at, node)| !nodes[..at].contains(node));
        (distinct && !nodes.is_empty()).then_some(Self { nodes })
    }

    /// The `replication_factor` best of `members`, or all of them if they are fewer.
    fn rank(partition: PartitionId, replication_factor: usize, members: &[NodeId]) -> Self {
        // A partial selection: R is small, members may be many, and most lose at the first comparison.
        let mut best: Vec<(u32, &NodeId)> = Vec::with_capacity(replication_factor + 1);
        let mut buffer = partition.to_string();
        let prefix = buffer.len();
        for node in members {
            buffer.truncate(prefix);
            buffer.push_str(node.as_str());
            let entry = (key_hash(buffer.as_bytes()), node);
            let at = best.partition_point(|other| *other < entry);
            if at < replication_factor {
                best.insert(at, entry);
                best.truncate(replication_factor);
            }
        }
        Self { nodes: best.into_iter().map(|(_, node)| node.clone()).collect() }
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self) -> &NodeId {
        &self.nodes[0]
    }

    /// The replicas, in their order.
    #[must_use]
    pub fn replicas(&self) -> &[NodeId] {
        &self.nodes[1..]
    }

    /// Primary and replicas.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether the node is one of them.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }
}

impl TryFrom<Vec<NodeId>> for Placement {
    type Error = &'static str;

    fn try_from(nodes: Vec<NodeId>) -> Result<Self, Self::Error> {
        Self::new(nodes).ok_or("a partition needs a primary and no node twice")
    }
}

impl From<Placement> for Vec<NodeId> {
    fn from(placement: Placement) -> Self {
        placement.nodes
    }
}

/// Every partition with its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Assignment {
    placements: Vec<Placement>,
}

impl Assignment {
    /// The assignment these members lead to, whatever their order: each partition gets
    /// `min(replication_factor, members)` distinct nodes. None without members or partitions, or with a
    /// replication factor of 0.
    #[must_use]
    pub fn compute(partition_count: u32, replication_factor: usize, members: &[NodeId]) -> Option<Self> {
        if members.is_empty() || partition_count == 0 || replication_factor == 0 {
            return None;
        }
        let rank = |number| Placement::rank(PartitionId(number), replication_factor, members);
        Some(Self { placements: (0..partition_count).map(rank).collect() })
    }

    /// How many partitions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.placements.len()
    }

    /// Never true: an assignment has at least one partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
    }

    /// One partition's nodes.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<&Placement> {
        self.placements.get(partition.index())
    }

    /// Puts other nodes in charge of a partition; false if there is no such partition.
    pub(crate) fn replace(&mut self, partition: PartitionId, placement: Placement) -> bool {
        match self.placements.get_mut(partition.index()) {
            Some(slot) => {
                *slot = placement;
                true
            }
            None => false,
        }
    }

    /// An assignment of exactly these placements, by partition number.
    #[cfg(test)]
    pub(crate) fn from_placements(placements: Vec<Placement>) -> Option<Self> {
        (!placements.is_empty()).then_some(Self { placements })
    }

    /// All partitions by number.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &Placement)> {
        (0..).map(PartitionId).zip(&self.placements)
    }
}

#[cfg(test)]
mod tests;
