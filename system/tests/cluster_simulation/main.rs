//! Membership storms, simulated: the same decisions as in production (state machine, health judge, leader's
//! duties) on simulated nodes, links, disks and time, replayable by seed.
//!
//! The agreed log is modelled as what Raft promises (a committed entry stays, a leader needs a majority, an
//! entry whose leader died is there or not) and not proved again here. `QUEUEBENCH_SIM_SEEDS=10000` runs
//! the long form, `QUEUEBENCH_SIM_SEED=n` one storm again.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

mod consensus;
mod invariants;
mod node;
mod scale;
mod storm;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}: not a number")))
}

#[test]
fn storms_leave_nothing_broken() {
    let (first, count) = match number("QUEUEBENCH_SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("QUEUEBENCH_SIM_SEEDS").unwrap_or(1_000)),
    };
    let next = AtomicU64::new(first);
    let total = storm::Totals::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let run = catch_unwind(AssertUnwindSafe(|| storm::run(seed, &total)));
                    assert!(run.is_ok(), "storm failed; again with QUEUEBENCH_SIM_SEED={seed}");
                }
            });
        }
    });
    println!("{count} storms: {total}");
    if count >= 100 {
        total.assert_eventful();
    }
}

#[test]
fn a_storm_is_the_same_storm_again() {
    let [first, second] = [storm::Totals::default(), storm::Totals::default()];
    storm::run(7, &first);
    storm::run(7, &second);
    assert_eq!(first.to_string(), second.to_string());
}

#[test]
fn a_hundred_nodes_agree() {
    scale::report();
}

#[test]
fn a_death_is_agreed_on_within_its_detection_and_a_second() {
    scale::deaths();
}
