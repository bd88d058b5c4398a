//! `queue::memory` beside raw channels: one thread, a 152-byte item, capacity 1,000, publish then receive.
//!
//! Three forms of ours: acknowledged on receipt, acknowledged by the consumer, and the latter through
//! `AnyQueue` with a message instead of a bare item. The raw channels do neither acknowledgement nor
//! redelivery nor statistics: they are the floor.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use queuebench_system::message::Message;
use queuebench_system::queue::{
    Acknowledge, Completions, Delivery as _, Memory, MemoryConfig, Outcome, Publisher as _, Queue as _,
    QueueConfig, SubscribeOptions, Subscriber as _, Token,
};

type Item = [u64; 19];

const ITEM: Item = [7; 19];
const CAPACITY: usize = 1_000;

struct Ignore;

impl Completions for Ignore {
    fn complete(&self, _token: Token, _outcome: Outcome) {}
}

fn options(acknowledge: Acknowledge) -> SubscribeOptions {
    SubscribeOptions { group: "bench".to_owned(), prefetch: CAPACITY, acknowledge }
}

fn config() -> MemoryConfig {
    MemoryConfig { capacity: CAPACITY, ..MemoryConfig::default() }
}

fn pair(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue::memory/pair");
    group.throughput(Throughput::Elements(1));

    let (sender, receiver) = kanal::bounded::<Item>(CAPACITY);
    group.bench_function("kanal", |b| {
        b.iter(|| {
            sender.try_send(black_box(ITEM)).expect("there is room");
            black_box(receiver.try_recv().expect("it is open"))
        });
    });
    let (sender, receiver) = crossfire::mpmc::bounded_blocking::<Item>(CAPACITY);
    group.bench_function("crossfire", |b| {
        b.iter(|| {
            sender.try_send(black_box(ITEM)).expect("there is room");
            black_box(receiver.try_recv().expect("it is there"))
        });
    });
    let (sender, receiver) = crossbeam_channel::bounded::<Item>(CAPACITY);
    group.bench_function("crossbeam", |b| {
        b.iter(|| {
            sender.try_send(black_box(ITEM)).expect("there is room");
            black_box(receiver.try_recv().expect("it is there"))
        });
    });

    for (name, acknowledge) in
        [("on_receive", Acknowledge::OnReceive), ("explicit_ack", Acknowledge::Explicit)]
    {
        let queue = Memory::<Item>::open(config()).expect("the settings are possible");
        let mut receiver = queue.receiver(&options(acknowledge)).expect("it is open");
        let sender = queue.sender().expect("it is open");
        group.bench_function(name, |b| {
            b.iter(|| {
                let sent = sender.send(black_box(ITEM)).now_or_never().expect("there is room");
                sent.expect("it is open");
                let delivery = receiver.try_receive().expect("it is open").expect("it is there");
                black_box(delivery.item());
                delivery.accept();
            });
        });
    }
    group.finish();
}

/// The same through the traits: what a generic harness pays, and what dispatch by kind adds.
fn traits(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("queue::memory/traits");
    group.throughput(Throughput::Elements(1));
    let message = Message::new(vec![7_u8; 100]).with_key("key");

    macro_rules! through {
        ($name:literal, $queue:expr) => {
            let queue = $queue;
            let mut subscriber =
                runtime.block_on(queue.subscriber(options(Acknowledge::Explicit))).expect("it is open");
            let publisher = runtime.block_on(queue.publisher(Arc::new(Ignore))).expect("it is open");
            group.bench_function($name, |b| {
                b.iter(|| {
                    let sent = publisher.publish(black_box(message.clone()), Token(0)).now_or_never();
                    let _ = sent.expect("there is room").expect("it is open");
                    let delivery =
                        subscriber.recv().now_or_never().expect("it is there").expect("it is open");
                    black_box(delivery.message());
                    delivery.ack().now_or_never().expect("at once").expect("it is open");
                });
            });
        };
    }
    through!("direct", Memory::<Message>::open(config()).expect("the settings are possible"));
    through!(
        "any",
        runtime.block_on(QueueConfig::Memory(config()).open()).expect("the settings are possible")
    );

    let mut clones: VecDeque<Message> = VecDeque::with_capacity(1);
    group.bench_function("message_clone_alone", |b| {
        b.iter(|| {
            clones.push_back(black_box(message.clone()));
            black_box(clones.pop_front())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = pair, traits
}
criterion_main!(benches);
