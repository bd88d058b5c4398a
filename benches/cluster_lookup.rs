//! Bench of `cluster::topology`: key → partition → nodes on the read path, 64 and 16,384 partitions.
//!
//! The claim it supports is "below 200 ns without a lock"; the writer that replaces the picture meanwhile
//! shows that readers do not wait for it.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use queuebench_system::cluster::{Assignment, Node, Topology, TopologyCell};

fn topology(version: u64, partitions: u32) -> Topology {
    let node = |number: u32| Node {
        id: format!("node-{number}").parse().expect("a plain id"),
        ip: format!("10.0.0.{number}:8080"),
        port: 0,
        name: String::new(),
        status: "active".to_owned(),
        services: BTreeMap::new(),
        advertise_addr: None,
    };
    let nodes: Vec<_> = (1..=7).map(|number| Arc::new(node(number))).collect();
    let ids: Vec<_> = nodes.iter().map(|node| node.id.clone()).collect();
    Topology::new(version, nodes, Assignment::compute(partitions, 3, &ids).map(Arc::new))
}

fn lookup(c: &mut Criterion) {
    let keys: Vec<String> = (0..4_096).map(|number| format!("user:{number}")).collect();
    let mut group = c.benchmark_group("cluster::topology::locate");
    group.throughput(Throughput::Elements(1));
    for partitions in [64, 16_384] {
        for writing in [false, true] {
            let cell = TopologyCell::new(topology(1, partitions));
            let pictures = [topology(2, partitions), topology(3, partitions)];
            let stop = AtomicBool::new(false);
            let name = if writing { "while_replaced" } else { "quiet" };
            thread::scope(|scope| {
                if writing {
                    scope.spawn(|| {
                        for picture in pictures.iter().cycle() {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            cell.publish(picture.clone());
                            thread::sleep(Duration::from_millis(5));
                        }
                    });
                }
                let mut at = 0;
                group.bench_function(BenchmarkId::new(name, partitions), |b| {
                    b.iter(|| {
                        at = (at + 1) % keys.len();
                        let picture = cell.read();
                        let located = picture.locate(black_box(keys[at].as_bytes()));
                        located.map_or(0, |found| found.nodes().map(|node| node.ip.len()).sum())
                    });
                });
                stop.store(true, Ordering::Relaxed);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
