//! Four producers and four consumers on OS threads, a 152-byte item: `queue::memory` beside raw channels.
//!
//! Repetitions inside one process agree while processes differ by two to four times, so every cell is
//! measured in processes of its own: `cargo run --release -p queuebench-benches --example memory_throughput`
//! prints the median of five processes with the lowest and the highest.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::process::Command;
use std::time::Instant;

use queuebench_system::queue::memory::FullPolicy;
use queuebench_system::queue::{Acknowledge, Memory, MemoryConfig, SubscribeOptions};

type Item = [u64; 19];

const THREADS: usize = 4;
const MESSAGES: usize = 1_000_000;
const CAPACITY: usize = 1_000;
const PROCESSES: usize = 5;
const QUEUES: [&str; 5] = ["kanal", "crossfire", "crossbeam", "memory", "memory-ack"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let Some(name) = arguments.next() {
        println!("{}", once(&name));
        return;
    }
    println!("{:12} {:>8} {:>8} {:>8}  million messages/s", "queue", "median", "lowest", "highest");
    // Interleaved, so that a slow minute of the machine falls on all.
    let mut rates = vec![Vec::new(); QUEUES.len()];
    for _ in 0..PROCESSES {
        for (name, rates) in QUEUES.iter().zip(&mut rates) {
            rates.push(in_process(name));
        }
    }
    for (name, mut rates) in QUEUES.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (low, high) = (rates[0], rates[PROCESSES - 1]);
        println!("{name:12} {:8.2} {low:8.2} {high:8.2}", rates[PROCESSES / 2]);
    }
}

fn in_process(name: &str) -> f64 {
    let program = std::env::current_exe().expect("a program knows its path");
    let output = Command::new(program).arg(name).output().expect("our own program starts");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a number")
}

/// Million messages a second of one pass.
fn once(name: &str) -> f64 {
    let item: Item = [7; 19];
    match name {
        "kanal" => {
            let (sender, receiver) = kanal::bounded::<Item>(CAPACITY);
            pass(
                || {
                    let sender = sender.clone();
                    move || sender.send(item).is_ok()
                },
                || {
                    let receiver = receiver.clone();
                    move || receiver.recv().is_ok()
                },
            )
        }
        "crossfire" => {
            let (sender, receiver) = crossfire::mpmc::bounded_blocking::<Item>(CAPACITY);
            pass(
                || {
                    let sender = sender.clone();
                    move || sender.send(item).is_ok()
                },
                || {
                    let receiver = receiver.clone();
                    move || receiver.recv().is_ok()
                },
            )
        }
        "crossbeam" => {
            let (sender, receiver) = crossbeam_channel::bounded::<Item>(CAPACITY);
            pass(
                || {
                    let sender = sender.clone();
                    move || sender.send(item).is_ok()
                },
                || {
                    let receiver = receiver.clone();
                    move || receiver.recv().is_ok()
                },
            )
        }
        "memory" => memory(Acknowledge::OnReceive),
        "memory-ack" => memory(Acknowledge::Explicit),
        other => panic!("`{other}` is none of {}", QUEUES.join(", ")),
    }
}

fn memory(acknowledge: Acknowledge) -> f64 {
    let config = MemoryConfig { capacity: CAPACITY, full: FullPolicy::Wait, ..MemoryConfig::default() };
    let queue = Memory::<Item>::open(config).expect("the settings are possible");
    let options = SubscribeOptions { group: "g".to_owned(), prefetch: CAPACITY, acknowledge };
    let receivers: Vec<_> = (0..THREADS).map(|_| queue.receiver(&options).expect("it is open")).collect();
    let mut receivers = receivers.into_iter();
    let item: Item = [7; 19];
    pass(
        || {
            let sender = queue.sender().expect("it is open");
            move || sender.send_blocking(item).is_ok()
        },
        || {
            let mut receiver = receivers.next().expect("one a consumer");
            move || receiver.receive_blocking().map(|delivery| delivery.accept()).is_ok()
        },
    )
}

fn pass<S, R>(mut sender: impl FnMut() -> S, mut receiver: impl FnMut() -> R) -> f64
where
    S: FnMut() -> bool + Send,
    R: FnMut() -> bool + Send,
{
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let mut send = sender();
            scope.spawn(move || (0..MESSAGES / THREADS).for_each(|_| assert!(send(), "it is open")));
            let mut receive = receiver();
            scope.spawn(move || (0..MESSAGES / THREADS).for_each(|_| assert!(receive(), "it is open")));
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let messages = MESSAGES as f64;
    messages / started.elapsed().as_secs_f64() / 1e6
}
