use std::collections::BTreeMap;

use proptest::{collection::btree_set, prelude::*};

use super::{Assignment, Placement, key_hash, partition_of, score};
use crate::cluster::name::{NodeId, PartitionId};

fn node(number: u32) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

fn nodes(numbers: impl IntoIterator<Item = u32>) -> Vec<NodeId> {
    numbers.into_iter().map(node).collect()
}

fn counts(assignment: &Assignment) -> (Vec<usize>, Vec<usize>) {
    let mut primaries = BTreeMap::<&NodeId, usize>::new();
    let mut replicas = BTreeMap::<&NodeId, usize>::new();
    for (_, placement) in assignment.iter() {
        *primaries.entry(placement.primary()).or_default() += 1;
        for replica in placement.replicas() {
            *replicas.entry(replica).or_default() += 1;
        }
    }
    (primaries.into_values().collect(), replicas.into_values().collect())
}

#[test]
fn keys_hash_as_every_client_expects() {
    for (key, hash, of_16, of_64) in [
        ("user:1", 3_182_550_288, 0, 16),
        ("user:2", 4_223_113_410, 2, 2),
        ("user:123", 2_430_271_536, 0, 48),
        ("order:100", 3_739_334_958, 14, 46),
        ("product:abc", 2_034_088_786, 2, 18),
        ("test-key", 1_393_779_313, 1, 49),
        ("", 3_558_706_393, 9, 25),
        ("a", 214_005_177, 9, 57),
    ] {
        assert_eq!(key_hash(key.as_bytes()), hash, "{key:?}");
        assert_eq!(partition_of(key.as_bytes(), 16), PartitionId(of_16), "{key:?}");
        assert_eq!(partition_of(key.as_bytes(), 64), PartitionId(of_64), "{key:?}");
    }
}

#[test]
fn three_members_get_the_known_assignment() {
    let expected: [[u32; 3]; 16] = [
        [3, 2, 1],
        [1, 2, 3],
        [2, 3, 1],
        [1, 3, 2],
        [1, 3, 2],
        [1, 2, 3],
        [3, 1, 2],
        [3, 1, 2],
        [1, 2, 3],
        [3, 2, 1],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [2, 1, 3],
        [2, 1, 3],
        [2, 1, 3],
    ];
    let assignment = Assignment::compute(16, 3, &nodes(1..=3)).unwrap();
    for ((id, placement), expected) in assignment.iter().zip(expected) {
        assert_eq!(placement.nodes(), nodes(expected), "{id}");
    }
    assert_eq!(counts(&assignment), (vec![6, 6, 4], vec![10, 10, 12]));
    let scores = [2_585_611_144, 1_225_891_313, 398_276_479];
    assert_eq!([1, 2, 3].map(|n| score(PartitionId(0), &node(n))), scores);
}

#[test]
fn a_fourth_member_takes_what_is_its_own_and_nothing_else() {
    let before = Assignment::compute(64, 3, &nodes(1..=3)).unwrap();
    assert_eq!(counts(&before), (vec![17, 25, 22], vec![47, 39, 42]));
    let after = Assignment::compute(64, 3, &nodes(1..=4)).unwrap();
    assert_eq!(counts(&after).0, [12, 22, 16, 14]);
    let pairs = || before.iter().zip(after.iter());
    let moved: Vec<_> = pairs().filter(|((_, b), (_, a))| a.primary() != b.primary()).collect();
    assert_eq!(moved.len(), 14);
    assert!(moved.iter().all(|(_, (_, a))| *a.primary() == node(4)));
    assert_eq!(pairs().filter(|((_, b), (_, a))| a != b).count(), 44);
}

#[test]
fn a_placement_has_a_primary_and_no_node_twice() {
    assert_eq!(Placement::new(vec![]), None);
    assert_eq!(Placement::new(nodes([1, 2, 1])), None);
    assert!(Placement::new(nodes([2, 1])).is_some());
    assert_eq!(Assignment::compute(16, 3, &[]), None);
    assert_eq!(Assignment::compute(0, 3, &nodes([1])), None);
    assert_eq!(Assignment::compute(16, 0, &nodes([1])), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every partition has min(R, members) distinct members, ranked by score, ties by id.
    #[test]
    fn ranks_are_by_score(
        members in btree_set(0_u32..500, 1..24),
        partitions in 1_u32..80,
        factor in 1_usize..6,
    ) {
        let members = nodes(members);
        let assignment = Assignment::compute(partitions, factor, &members).unwrap();
        prop_assert_eq!(assignment.len(), partitions as usize);
        for (id, placement) in assignment.iter() {
            let mut ranked = members.clone();
            ranked.sort_by_key(|node| (score(id, node), node.clone()));
            ranked.truncate(factor);
            prop_assert_eq!(placement.nodes(), &ranked[..]);
        }
    }

    /// The order in which members are listed does not matter.
    #[test]
    fn order_of_members_does_not_matter(
        members in btree_set(0_u32..500, 1..12),
        rotate in 0_usize..12,
    ) {
        let mut members = nodes(members);
        let before = Assignment::compute(16, 3, &members);
        let by = rotate % members.len();
        members.rotate_left(by);
        members.reverse();
        prop_assert_eq!(before, Assignment::compute(16, 3, &members));
    }

    /// A member that joins (or, read backwards, leaves) changes exactly the partitions in which it ranks
    /// among the first R, and there only makes room for itself.
    #[test]
    fn one_member_changes_only_where_it_ranks(
        members in btree_set(0_u32..500, 1..16),
        joining in 500_u32..600,
        partitions in 1_u32..64,
        factor in 1_usize..5,
    ) {
        let before_members = nodes(members);
        let joining = node(joining);
        let mut after_members = before_members.clone();
        after_members.push(joining.clone());
        let before = Assignment::compute(partitions, factor, &before_members).unwrap();
        let after = Assignment::compute(partitions, factor, &after_members).unwrap();
        for ((_, before), (_, after)) in before.iter().zip(after.iter()) {
            prop_assert_eq!(before != after, after.contains(&joining));
            let kept: Vec<_> = after.nodes().iter().filter(|node| **node != joining).cloned().collect();
            prop_assert_eq!(&before.nodes()[..kept.len()], &kept[..]);
        }
    }

    /// A key's partition exists and does not depend on the members.
    #[test]
    fn a_key_has_a_partition(key in proptest::collection::vec(any::<u8>(), 0..200), count in 1_u32..70_000) {
        let partition = partition_of(&key, count);
        prop_assert!(partition.0 < count);
        prop_assert_eq!(partition.0, key_hash(&key) % count);
    }
}
