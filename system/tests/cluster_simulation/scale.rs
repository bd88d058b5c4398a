//! How messages and convergence grow with the number of nodes, up to a hundred; and how soon a death is agreed on.

use queuebench_system::cluster::{Assignment, command::ClusterConfig};

use super::world::{HEALTH, TICK_MS, World};

const PARTITIONS: u32 = 64;

struct Row {
    nodes: usize,
    form_ms: u64,
    quiet_per_second: u64,
    probes_per_second: u64,
    detect_ms: u64,
    agree_ms: u64,
    moved: usize,
}

fn agreed(world: &World, members: usize) -> bool {
    let ids: Vec<_> = world.oracle.members().keys().cloned().collect();
    ids.len() == members
        && world.nodes.iter().filter(|node| node.up).all(|node| node.applied == world.log.len())
        && world.oracle.rebalance_due().is_none()
        && world.oracle.assignment().is_some()
}

/// Kills one of so many nodes after a quiet time.
fn run(nodes: usize, seed: u64, quiet: u64) -> Row {
    let mut world = World::new(seed);
    world.bootstrap(ClusterConfig {
        cluster_name: "scale".to_owned(),
        partition_count: PARTITIONS,
        replication_factor: 3,
    });
    (1..nodes).for_each(|_| {
        world.add_node();
    });
    while !world.settled() {
        world.step();
        assert!(world.now < 600_000, "{nodes} nodes did not form a cluster");
    }
    let form_ms = world.now;
    let before = world.messages;
    (0..quiet / TICK_MS).for_each(|_| world.step());
    let messages = (world.messages.total() - before.total()) * 1_000 / quiet;
    let probes = (world.messages.probes - before.probes) * 1_000 / quiet;
    let assignment = world.oracle.assignment().cloned().expect("a settled cluster has partitions");
    let leader = world.leader.as_ref().map(|leader| leader.node);
    let victim = (0..nodes).rev().find(|node| Some(*node) != leader).expect("somebody who does not lead");
    let died = world.now;
    world.nodes[victim].crash();
    let mut detect_ms = None;
    while !agreed(&world, nodes - 1) {
        world.step();
        if detect_ms.is_none() && !world.removals.is_empty() {
            detect_ms = Some(world.now - died);
        }
        assert!(world.now - died < 60_000, "{nodes} nodes did not agree on a death");
    }
    let after = world.oracle.assignment().expect("still partitions");
    let ids: Vec<_> = world.oracle.members().keys().cloned().collect();
    assert_eq!(Some(&**after), Assignment::compute(PARTITIONS, 3, &ids).as_ref());
    let moved =
        assignment.iter().zip(after.iter()).filter(|((_, before), (_, after))| before != after).count();
    let detect_ms = detect_ms.expect("agreement follows detection");
    Row {
        nodes,
        form_ms,
        quiet_per_second: messages,
        probes_per_second: probes,
        detect_ms,
        agree_ms: world.now - died,
        moved,
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this is run for")]
pub(crate) fn report() {
    let detection = u64::try_from(HEALTH.detection().as_millis()).unwrap();
    println!("nodes  formed ms  messages/s  of them probes/s  detected ms  agreed ms  partitions moved");
    let mut rows = Vec::new();
    for nodes in [3, 10, 30, 100] {
        let row = run(nodes, nodes as u64, 10_000);
        println!(
            "{:5}  {:9}  {:10}  {:16}  {:11}  {:9}  {:16}",
            row.nodes,
            row.form_ms,
            row.quiet_per_second,
            row.probes_per_second,
            row.detect_ms,
            row.agree_ms,
            row.moved
        );
        assert!(row.agree_ms <= detection + HEALTH_ROUNDING_MS + 1_000, "agreement took too long");
        rows.push(row);
    }
    let (small, large) = (&rows[1], &rows[3]);
    let growth = large.quiet_per_second / small.quiet_per_second.max(1);
    assert!(growth <= 15, "messages grew {growth} times for 10 times the nodes: not linear");
}

/// Observers ask at their own points of the interval and tell the leader afterwards.
const HEALTH_ROUNDING_MS: u64 = 1_000;

/// Deaths at different moments between two questions, of clusters of different size.
#[expect(clippy::print_stdout, reason = "the figures are what this is run for")]
pub(crate) fn deaths() {
    const DEATHS: u64 = 24;
    let allowed = u64::try_from(HEALTH.detection().as_millis()).unwrap() + 1_000;
    let mut rows: Vec<Row> = (0..DEATHS)
        .map(|number| {
            let nodes = 3 + usize::try_from(number % 5).unwrap();
            // So that every tick of the interval between two questions is met.
            run(nodes, 1_000 + number, 5_000 + number * 7 * TICK_MS)
        })
        .collect();
    rows.sort_by_key(|row| row.agree_ms);
    let within = rows.iter().filter(|row| row.agree_ms <= allowed).count();
    let (first, middle, last) = (&rows[0], &rows[rows.len() / 2], &rows[rows.len() - 1]);
    println!(
        "{DEATHS} deaths: agreed after {} ms, {} ms in the middle, {} ms at most; {within} within {allowed} ms, which \
         is the failure detection and a second",
        first.agree_ms, middle.agree_ms, last.agree_ms
    );
    assert_eq!(within, rows.len(), "agreement took longer than the failure detection and a second");
}
