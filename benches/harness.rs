//! What the harness adds to every message, piece by piece: `envelope`, `ledger`, `plan` and `recorder`.
//!
//! The sum bounds what a trial can send; `queuebench run harness/examples/own-cost.toml` measures the whole.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queuebench::envelope::{Envelope, LEN};
use queuebench::ledger::ConsumerLedger;
use queuebench::plan::{KeyChoice, Schedule, Shard};
use queuebench::profile::{Keys, RateShape};
use queuebench::recorder::{ReceiveRecorder, WindowClock, Windows};
use queuebench::units::Rate;

const ENVELOPE: Envelope = Envelope { trial_id: 1, sequence: 2, due: 3, key: 4, producer: 0, phase: 0 };

fn envelope(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    for size in [100, 256, 1024] {
        let body = vec![7_u8; size - LEN];
        group.throughput(Throughput::Bytes(size as u64));
        let mut block = BytesMut::with_capacity(1 << 20);
        group.bench_function(format!("seal/{size}"), |b| {
            b.iter(|| {
                if block.capacity() - block.len() < size {
                    block.clear();
                }
                ENVELOPE.seal(black_box(&body), &mut block);
            });
        });
        let mut sealed = BytesMut::new();
        ENVELOPE.seal(&body, &mut sealed);
        group.bench_function(format!("open/{size}"), |b| b.iter(|| Envelope::open(black_box(&sealed), 1)));
    }
    group.finish();
}

fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(1));
    let mut consumer = ConsumerLedger::new(0, 1, 1_000);
    let mut sequence = 0;
    group.bench_function("receive", |b| {
        b.iter(|| {
            sequence += 1;
            let key = u32::try_from(sequence % 1_000).unwrap_or(0);
            black_box(consumer.receive(0, key, sequence, || false))
        });
    });
    group.finish();
}

fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(1));
    let ramp = RateShape::Ramp { from: Rate::per_second(1e3), to: Rate::per_second(1e4) };
    let schedule = Schedule::new(&ramp, Duration::from_secs(60), None, None, Shard::WHOLE);
    let mut n = 0;
    group.bench_function("due_ns/ramp", |b| {
        b.iter(|| {
            n = (n + 1) % schedule.slots();
            black_box(schedule.due_ns(n))
        });
    });
    for (name, keys) in
        [("uniform", Keys::Uniform { count: 1_000 }), ("zipf", Keys::Zipf { count: 1_000, exponent: 0.99 })]
    {
        let choice = KeyChoice::new(keys, None, 1, Shard::WHOLE);
        let mut n = 0;
        group.bench_function(format!("key/{name}"), |b| {
            b.iter(|| {
                n += 1;
                black_box(choice.of_slot(n))
            });
        });
    }
    group.finish();
}

fn recorder(c: &mut Criterion) {
    let mut group = c.benchmark_group("recorder");
    group.throughput(Throughput::Elements(1));
    let mut recorder = ReceiveRecorder::new(1, Windows::new(WindowClock::new(500_000_000)));
    let mut now = 0;
    group.bench_function("receive", |b| {
        b.iter(|| {
            now += 700;
            recorder.receive(0, black_box(now / 2), now);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = envelope, ledger, plan, recorder
}
criterion_main!(benches);
