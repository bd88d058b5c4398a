//! One storm: nodes join, leave, die, come back, are replaced, paused and cut off in random order while a
//! client writes; then everything is mended, and the invariants must hold.

use std::{
    collections::BTreeSet,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use queuebench_system::cluster::{
    Operation,
    command::{ClusterConfig, LeaveReason, RemoveNode, SetPartitions},
    duties::can_spare,
};
use rand::RngExt;

use super::{
    invariants,
    node::Intent,
    world::{TICK_MS, World},
};

pub(crate) const REPLICATION_FACTOR: usize = 3;
const MOST_NODES: usize = 9;
const SETTLE_MS: u64 = 90_000;

/// What all storms together came to, to see that they were storms.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    entries: AtomicU64,
    faults: AtomicU64,
    leaders: AtomicU64,
    removals: AtomicU64,
    snapshots: AtomicU64,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    settle_ms: AtomicU64,
}

impl Totals {
    fn add(&self, world: &World, faults: u64, settle_ms: u64) {
        let add = |to: &AtomicU64, what: usize| to.fetch_add(what as u64, Ordering::Relaxed);
        let acknowledged = world.writes.iter().filter(|write| write.acknowledged).count();
        add(&self.entries, world.log.len());
        add(&self.removals, world.removals.len());
        add(&self.acknowledged, acknowledged);
        add(&self.unknown, world.writes.len() - acknowledged);
        self.faults.fetch_add(faults, Ordering::Relaxed);
        self.leaders.fetch_add(world.term, Ordering::Relaxed);
        self.snapshots.fetch_add(world.snapshots, Ordering::Relaxed);
        self.settle_ms.fetch_max(settle_ms, Ordering::Relaxed);
    }

    pub(crate) fn assert_eventful(&self) {
        for (what, count) in [
            ("faults", &self.faults),
            ("removals", &self.removals),
            ("snapshots", &self.snapshots),
            ("acknowledged writes", &self.acknowledged),
            ("writes of unknown outcome", &self.unknown),
        ] {
            assert!(count.load(Ordering::Relaxed) > 0, "a storm without {what} proves nothing");
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} entries, {} faults, {} leaders, {} removals, {} snapshots, {} writes acknowledged and {} unknown, \
             settled within {} ms",
            get(&self.entries),
            get(&self.faults),
            get(&self.leaders),
            get(&self.removals),
            get(&self.snapshots),
            get(&self.acknowledged),
            get(&self.unknown),
            get(&self.settle_ms)
        )
    }
}

/// How a storm blows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Anything may happen.
    Storm,
    /// One link at a time is broken, and nothing else: nobody may be removed.
    OneBrokenLink,
}

pub(crate) fn run(seed: u64, totals: &Totals) {
    let mut world = World::new(seed);
    let weather = if seed.is_multiple_of(8) { Weather::OneBrokenLink } else { Weather::Storm };
    world.bootstrap(ClusterConfig {
        cluster_name: "storm".to_owned(),
        partition_count: 16,
        replication_factor: REPLICATION_FACTOR,
    });
    for _ in 1..world.rng.random_range(3..=6) {
        let pause = world.rng.random_range(0..20);
        (0..pause).for_each(|_| world.step());
        world.add_node();
    }
    settle(&mut world, seed);
    let mut faults = 0;
    let end = world.now + world.rng.random_range(10_000..30_000);
    let mut next_fault = world.now;
    while world.now < end {
        if world.now >= next_fault {
            match weather {
                Weather::Storm => fault(&mut world),
                Weather::OneBrokenLink => another_broken_link(&mut world),
            }
            faults += 1;
            let longest = if weather == Weather::Storm { 2_500 } else { 9_000 };
            next_fault = world.now + world.rng.random_range(50..longest);
        }
        if world.rng.random_bool(0.3) {
            write(&mut world);
        }
        world.step();
    }
    let mended = world.now;
    mend(&mut world);
    settle(&mut world, seed);
    totals.add(&world, faults, world.now - mended);
    if weather == Weather::OneBrokenLink {
        assert_eq!(world.removals.len(), 0, "a broken link removed a member");
    }
    invariants::check(&world);
}

fn settle(world: &mut World, seed: u64) {
    let end = world.now + SETTLE_MS;
    while !world.settled() {
        assert!(world.now < end, "storm {seed} did not settle: {}", describe(world));
        world.step();
    }
}

fn describe(world: &World) -> String {
    let node = |node: &super::node::SimNode| {
        format!(
            "\n  {} raft {} {:?} up {} joined {} applied {}/{} listed {:?}",
            node.id,
            node.raft_id,
            node.intent,
            node.up,
            node.joined,
            node.applied,
            world.log.len(),
            world.oracle.members().get(&node.id).map(|known| (known.member.raft_id, known.incarnation)),
        )
    };
    let nodes: String = world.nodes.iter().map(node).collect();
    let leader = world.leader.as_ref().map(|leader| leader.node + 1);
    format!("leader {leader:?}, voters {:?}, due {:?}{nodes}", world.voters, world.oracle.rebalance_due())
}

fn write(world: &mut World) {
    let number = world.writes.len();
    // Some keys are written again and again, most once.
    let key = if world.rng.random_bool(0.3) {
        format!("hot-{}", world.rng.random_range(0..4))
    } else {
        format!("key-{number}")
    };
    world.client_write(key, format!("value-{number}"));
}

fn another_broken_link(world: &mut World) {
    world.broken.clear();
    if world.rng.random_bool(0.8) {
        let (a, b) = (any(world), any(world));
        world.break_link(a, b);
    }
}

fn any(world: &mut World) -> usize {
    world.rng.random_range(0..world.nodes.len())
}

fn fault(world: &mut World) {
    let node = any(world);
    match world.rng.random_range(0..20) {
        0..=3 => world.nodes[node].crash(),
        4..=7 => restart(world, node),
        8 => replace(world, node),
        9 => {
            let other = any(world);
            world.break_link(node, other);
        }
        10 | 11 => split(world),
        12..=14 => world.broken.clear(),
        15 => {
            let pause = world.rng.random_range(200..8_000);
            world.nodes[node].paused_until = world.now + pause;
        }
        16 if world.nodes.len() < MOST_NODES => {
            world.add_node();
        }
        17 => remove(world, node, LeaveReason::GracefulShutdown),
        18 => remove(world, node, LeaveReason::RemovedByAdmin),
        _ => world.propose_for(Operation::RebalancePartitions(SetPartitions::default()), None),
    }
}

fn restart(world: &mut World, node: usize) {
    if world.nodes[node].intent != Intent::Out {
        let incarnation = world.incarnation();
        world.nodes[node].crash();
        let now = world.now;
        world.nodes[node].start(incarnation, now);
    }
}

/// A new machine under an old name: only while a majority of the votes keeps everything without it, as an
/// operator must see to as well.
fn replace(world: &mut World, node: usize) {
    // Nothing may be under way: the members have the votes, and no vote's disk is gone already.
    let members = world.oracle.members().values().map(|known| known.member.raft_id);
    let quiet = world.leader.as_ref().is_some_and(super::consensus::Leadership::idle)
        && members.collect::<BTreeSet<_>>() == world.voters
        && world.voters.iter().all(|vote| world.nodes.iter().any(|node| node.raft_id == *vote));
    let full = |at: &usize| {
        *at != node
            && world.nodes[*at].received == world.log.len()
            && world.voters.contains(&world.nodes[*at].raft_id)
    };
    let keepers = (0..world.nodes.len()).filter(full).count();
    let enough = quiet && keepers > world.voters.len() / 2;
    if enough && world.nodes[node].intent == Intent::Member {
        let raft_id = world.raft_id();
        world.nodes[node].crash();
        world.nodes[node].wipe(raft_id);
        restart(world, node);
    }
}

fn split(world: &mut World) {
    let left: Vec<bool> = world.nodes.iter().map(|_| world.rng.random_bool(0.5)).collect();
    for a in 0..left.len() {
        for b in 0..a {
            if left[a] != left[b] {
                world.break_link(a, b);
            }
        }
    }
}

/// Asks the leader to remove a member; it refuses what would leave no majority.
fn remove(world: &mut World, node: usize, reason: LeaveReason) {
    let members = world.oracle.members();
    let Some(leader) = &world.leader else { return };
    let id = world.nodes[node].id.clone();
    let Some(vote) = members.get(&id).map(|known| known.member.raft_id) else { return };
    let spare = can_spare(vote, &world.voters, &world.answering(leader.node));
    let asked = spare && members.len() > REPLICATION_FACTOR && world.nodes[node].intent == Intent::Member;
    if asked && world.nodes[node].up {
        if reason == LeaveReason::GracefulShutdown {
            world.nodes[node].intent = Intent::Leaving;
        }
        world.propose_for(Operation::RemoveNode(RemoveNode { id, reason, incarnation: None }), None);
    }
}

/// Mends every link and starts every node that is meant to run. A node whose leave was lost stays.
fn mend(world: &mut World) {
    world.broken.clear();
    for node in 0..world.nodes.len() {
        world.nodes[node].paused_until = 0;
        let listed = world.oracle.members().contains_key(&world.nodes[node].id);
        match world.nodes[node].intent {
            Intent::Leaving => world.nodes[node].intent = Intent::Member,
            Intent::Out if listed => world.nodes[node].intent = Intent::Member,
            _ => {}
        }
        if !world.nodes[node].up {
            restart(world, node);
        }
    }
    for _ in 0..2_000 / TICK_MS {
        world.step();
    }
}
