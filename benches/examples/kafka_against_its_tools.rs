//! Our Kafka queue beside Kafka's own performance tools: same broker, same settings, rounds interleaved.
//!
//!     queuebench up kafka          # prints the address
//!     cargo run --release -p queuebench-benches --example kafka_against_its_tools -- \
//!         127.0.0.1:9092 'libs/*' [publish|consume|all] [rounds]
//!
//! The second argument is the class path of a Kafka distribution. Ours goes through the queue trait: every
//! message has its outcome checked on publishing, and is acknowledged (its offset stored) on receiving.
//! Published: from the first `publish` to the last outcome, with the publisher opened before; the tool's own
//! figure, which starts with its first send and includes its virtual machine's warm-up. Consumed: both sides
//! from joining the group to the last message. Round 0 warms both sides up and is not counted.

#![expect(clippy::print_stdout, reason = "a measuring program prints its table")]

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use queuebench_system::message::Message;
use queuebench_system::queue::kafka::{Kafka, KafkaConfig};
use queuebench_system::queue::{
    Acknowledge, Completions, Delivery, Outcome, Publisher, Queue, SubscribeOptions, Subscriber, Token,
};

type Failure = Box<dyn std::error::Error>;

const LIMIT: Duration = Duration::from_secs(120);

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().ok_or("want the broker's address")?;
    let class_path = arguments.next().ok_or("want the class path of a Kafka distribution")?;
    let what = arguments.next().unwrap_or_else(|| "all".to_owned());
    let rounds: usize = arguments.next().map_or(Ok(4), |rounds| rounds.parse())?;
    let bench = Bench { brokers, class_path, rounds };
    println!("{:<44} {:>12} {:>12} {:>7}  rounds (ours/tool)", "msg/s, medians", "ours", "tool", "ratio");
    for (size, count, in_flight) in [(100, 3_000_000, 100_000), (1_024, 600_000, 10_000)] {
        if what != "consume" {
            for batch_bytes in [1_048_576, 16_384] {
                bench.publish(&Load { size, count, in_flight, batch_bytes, id: false, key: false })?;
            }
        }
        if what == "keys" {
            bench.publish(&Load { size, count, in_flight, batch_bytes: 1_048_576, id: false, key: true })?;
            bench.publish(&Load { size, count, in_flight, batch_bytes: 1_048_576, id: true, key: true })?;
        }
        if what != "publish" && what != "keys" {
            bench.consume(size, count)?;
        }
    }
    Ok(())
}

struct Bench {
    brokers: String,
    class_path: String,
    rounds: usize,
}

struct Load {
    size: usize,
    count: u64,
    in_flight: usize,
    batch_bytes: usize,
    id: bool,
    key: bool,
}

/// Counts acknowledged and other outcomes.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    other: AtomicU64,
}

impl Completions for Tally {
    fn complete(&self, _: Token, outcome: Outcome) {
        let counter = if outcome == Outcome::Acknowledged { &self.acknowledged } else { &self.other };
        counter.fetch_add(1, Relaxed);
    }
}

impl Bench {
    fn publish(&self, load: &Load) -> Result<(), Failure> {
        let Load { size, count, batch_bytes, .. } = *load;
        let queue = block_on(Kafka::open(KafkaConfig {
            linger_ms: 5,
            batch_bytes,
            max_in_flight: load.in_flight,
            // The tool's defaults: a starved machine must not look like a failure on one side only.
            delivery_timeout_ms: 120_000,
            request_timeout_ms: 30_000,
            ..self.config("publish")
        }))?;
        let (mut ours, mut tool) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let one = || self.publish_ours(&queue, load);
            let other = || self.publish_tool(&queue.config().topic, load);
            // Who goes first alternates.
            let (mine, theirs) = if round % 2 == 0 {
                let mine = one()?;
                (mine, other()?)
            } else {
                let theirs = other()?;
                (one()?, theirs)
            };
            if round > 0 {
                ours.push(mine);
                tool.push(theirs);
            }
        }
        block_on(queue.close(LIMIT))?;
        block_on(queue.remove())?;
        let extras = match (load.id, load.key) {
            (false, false) => "",
            (false, true) => ", keys",
            (true, _) => ", keys and ids",
        };
        row(&format!("publish {count} x {size} B, batch {batch_bytes}{extras}"), &ours, &tool);
        Ok(())
    }

    fn publish_ours(&self, queue: &Kafka, load: &Load) -> Result<f64, Failure> {
        let tally = Arc::new(Tally::default());
        let publisher = block_on(queue.publisher(tally.clone()))?;
        let mut message = Message::new(vec![b'x'; load.size]);
        let names: Vec<String> = (0..1_024).map(|number| format!("message-{number:016}")).collect();
        let keys: Vec<bytes::Bytes> = names.iter().map(|name| name.clone().into()).collect();
        let started = Instant::now();
        for number in 0..load.count {
            let name = usize::try_from(number % 1_024)?;
            if load.key {
                message.key = keys[name].clone();
            }
            if load.id {
                message.id = names[name].as_str().into();
            }
            let _ = block_on(publisher.publish(message.clone(), Token(number)))?;
        }
        let left = block_on(publisher.flush(LIMIT));
        let elapsed = started.elapsed();
        let (acknowledged, other) = (tally.acknowledged.load(Relaxed), tally.other.load(Relaxed));
        if left > 0 || other > 0 || acknowledged != load.count {
            return Err(
                format!("{acknowledged} acknowledged, {other} otherwise, {left} without an answer").into()
            );
        }
        Ok(rate(load.count, elapsed))
    }

    fn publish_tool(&self, topic: &str, load: &Load) -> Result<f64, Failure> {
        let text = self.run(
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--topic".to_owned(),
                topic.to_owned(),
                "--num-records".to_owned(),
                load.count.to_string(),
                "--record-size".to_owned(),
                load.size.to_string(),
                "--throughput".to_owned(),
                "-1".to_owned(),
                "--producer-props".to_owned(),
                format!("bootstrap.servers={}", self.brokers),
                "acks=all".to_owned(),
                "linger.ms=5".to_owned(),
                format!("batch.size={}", load.batch_bytes),
            ],
        )?;
        // "3000000 records sent, 919399.3 records/sec (…), …" is its last line.
        let last = text.lines().rev().find(|line| line.contains("records sent")).ok_or("no result line")?;
        let rate = last.split(", ").nth(1).and_then(|part| part.split(' ').next()).ok_or("no rate")?;
        Ok(rate.parse()?)
    }

    fn consume(&self, size: usize, count: u64) -> Result<(), Failure> {
        let queue = block_on(Kafka::open(self.config("consume")))?;
        let load = Load { size, count, in_flight: 10_000, batch_bytes: 1_048_576, id: false, key: false };
        self.publish_ours(&queue, &load)?;
        let (mut ours, mut tool) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let (mine, theirs) = if round % 2 == 0 {
                let mine = consume_ours(&queue, round, count)?;
                (mine, self.consume_tool(&queue.config().topic, round, count)?)
            } else {
                let theirs = self.consume_tool(&queue.config().topic, round, count)?;
                (consume_ours(&queue, round, count)?, theirs)
            };
            if round > 0 {
                ours.push(mine);
                tool.push(theirs);
            }
        }
        block_on(queue.close(LIMIT))?;
        block_on(queue.remove())?;
        row(&format!("consume {count} x {size} B, each acknowledged"), &ours, &tool);
        Ok(())
    }

    fn consume_tool(&self, topic: &str, round: usize, count: u64) -> Result<f64, Failure> {
        let text = self.run(
            "org.apache.kafka.tools.ConsumerPerformance",
            &[
                "--bootstrap-server".to_owned(),
                self.brokers.clone(),
                "--topic".to_owned(),
                topic.to_owned(),
                "--messages".to_owned(),
                count.to_string(),
                "--group".to_owned(),
                format!("{topic}-tool-{round}"),
                "--hide-header".to_owned(),
            ],
        )?;
        // start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s, fetch messages/s
        let line = text.lines().rev().find(|line| line.split(", ").count() >= 10).ok_or("no result line")?;
        let columns: Vec<&str> = line.split(", ").collect();
        if columns[4].parse::<u64>()? < count {
            return Err(format!("the tool received {} of {count}", columns[4]).into());
        }
        Ok(columns[5].parse()?)
    }

    fn config(&self, name: &str) -> KafkaConfig {
        KafkaConfig::new(self.brokers.clone(), format!("against-tools-{name}-{}", std::process::id()))
    }

    fn run(&self, class: &str, arguments: &[String]) -> Result<String, Failure> {
        let output =
            Command::new("java").args(["-Xmx1g", "-cp", &self.class_path, class]).args(arguments).output()?;
        if !output.status.success() {
            return Err(format!("{class}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn consume_ours(queue: &Kafka, round: usize, count: u64) -> Result<f64, Failure> {
    let options = SubscribeOptions {
        group: format!("{}-ours-{round}", queue.config().topic),
        prefetch: 20_000,
        acknowledge: Acknowledge::Explicit,
    };
    let before = queue.statistics().acked;
    let started = Instant::now();
    block_on(async {
        let mut subscriber = queue.subscriber(options).await?;
        let mut batch = Vec::with_capacity(1_000);
        let mut received = 0;
        while received < count {
            received += subscriber.recv_batch(1_000, &mut batch).await? as u64;
            for delivery in batch.drain(..) {
                delivery.ack().await?;
            }
        }
        Ok::<_, Failure>(())
    })?;
    let elapsed = started.elapsed();
    let acked = queue.statistics().acked - before;
    if acked != count {
        return Err(format!("{acked} of {count} acknowledged").into());
    }
    Ok(rate(count, elapsed))
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn row(what: &str, ours: &[f64], tool: &[f64]) {
    let ratios: Vec<f64> = ours.iter().zip(tool).map(|(ours, tool)| ours / tool).collect();
    let rounds: Vec<String> =
        ours.iter().zip(tool).map(|(ours, tool)| format!("{ours:.0}/{tool:.0}")).collect();
    println!(
        "{what:<44} {:>12.0} {:>12.0} {:>7.2}  {}",
        median(ours),
        median(tool),
        median(&ratios),
        rounds.join(" ")
    );
}

/// Drives a future on this thread: the queue needs no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    thread_local! {
        static WAKER: std::task::Waker = Arc::new(Unpark(std::thread::current())).into();
    }
    let mut future = std::pin::pin!(future);
    WAKER.with(|waker| {
        loop {
            match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    })
}
