//! Rates of the NATS backend through the queue traits, to be put beside `nats bench js` on the same server:
//!
//! ```text
//! nats_rates URL publish  [--count N] [--payload BYTES] [--in-flight N] [--id] [--threads]
//! nats_rates URL sync     [--count N] [--payload BYTES] [--id]
//! nats_rates URL consume  [--count N] [--payload BYTES] [--prefetch N] [--batch N]
//! ```
//!
//! Every acknowledgement is checked; a run with one that is not `Acknowledged` fails. `--threads` publishes
//! from a thread without a runtime, as the harness does, instead of from a task beside the connection. Prints
//! one JSON object. Each run makes a stream of its own and removes it.
#![allow(clippy::print_stdout, reason = "the result is the output")]

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use queuebench_system::message::Message;
use queuebench_system::queue::nats::{Nats, NatsConfig, NatsPublisher};
use queuebench_system::queue::{
    Acknowledge, Completions, Delivery, Outcome, Publisher, Queue, SubscribeOptions, Subscriber, Token,
};
use tokio::sync::Notify;

type Fallible<T> = Result<T, Box<dyn Error>>;

#[derive(Clone, Debug)]
struct Options {
    url: String,
    mode: String,
    count: u64,
    payload: usize,
    in_flight: usize,
    prefetch: usize,
    batch: usize,
    id: bool,
    threads: bool,
}

fn options() -> Fallible<Options> {
    let mut args = std::env::args().skip(1);
    let usage = "nats_rates URL publish|sync|consume [--count N] [--payload BYTES] …";
    let mut options = Options {
        url: args.next().ok_or(usage)?,
        mode: args.next().ok_or(usage)?,
        count: 300_000,
        payload: 100,
        in_flight: 500,
        prefetch: 500,
        batch: 500,
        id: false,
        threads: false,
    };
    while let Some(flag) = args.next() {
        let mut number = || -> Fallible<u64> { Ok(args.next().ok_or(usage)?.parse()?) };
        match flag.as_str() {
            "--count" => options.count = number()?,
            "--payload" => options.payload = usize::try_from(number()?)?,
            "--in-flight" => options.in_flight = usize::try_from(number()?)?,
            "--prefetch" => options.prefetch = usize::try_from(number()?)?,
            "--batch" => options.batch = usize::try_from(number()?)?,
            "--id" => options.id = true,
            "--threads" => options.threads = true,
            other => return Err(format!("unknown flag {other}; {usage}").into()),
        }
    }
    Ok(options)
}

/// Counts outcomes, and keeps what was not acknowledged.
#[derive(Default)]
struct Sink {
    acknowledged: AtomicU64,
    other: Mutex<Vec<(Token, Outcome)>>,
    each: Notify,
}

impl Completions for Sink {
    fn complete(&self, token: Token, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => {
                self.acknowledged.fetch_add(1, Ordering::Release);
            }
            other => {
                if let Ok(mut list) = self.other.lock() {
                    list.push((token, other));
                }
            }
        }
        self.each.notify_one();
    }
}

impl Sink {
    fn check(&self, count: u64) -> Fallible<()> {
        let other = self.other.lock().map_err(|error| error.to_string())?;
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        if acknowledged == count && other.is_empty() {
            return Ok(());
        }
        Err(format!("{acknowledged} of {count} acknowledged, others: {:?}", other.iter().take(3)).into())
    }
}

fn main() -> Fallible<()> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let queue = Nats::open(NatsConfig {
            servers: vec![options.url.clone()],
            stream: format!("RATES{}", std::process::id()),
            subject: format!("rates.{}", std::process::id()),
            max_in_flight: options.in_flight,
            max_ack_pending: 10_000.max(u32::try_from(options.prefetch)?),
            ..NatsConfig::default()
        })
        .await?;
        let result = match options.mode.as_str() {
            "publish" => publish(&queue, &options).await,
            "sync" => sync(&queue, &options).await,
            "consume" => consume(&queue, &options).await,
            other => Err(format!("unknown mode {other}").into()),
        };
        queue.close(Duration::from_secs(10)).await?;
        queue.remove().await?;
        println!("{}", result?);
        Ok(())
    })
}

fn message(options: &Options, payload: &Message, n: u64) -> Message {
    if options.id { payload.clone().with_id(format!("m-{n:012}")) } else { payload.clone() }
}

async fn send_all(publisher: &NatsPublisher, options: &Options) -> Fallible<()> {
    let payload = Message::new(vec![b'x'; options.payload]);
    for n in 0..options.count {
        let _pending = publisher.publish(message(options, &payload, n), Token(n)).await?;
    }
    Ok(())
}

async fn publish(queue: &Nats, options: &Options) -> Fallible<String> {
    let sink = Arc::new(Sink::default());
    let publisher = queue.publisher(Arc::clone(&sink) as Arc<dyn Completions>).await?;
    let (begin, cpu) = (Instant::now(), cpu_seconds()?);
    if options.threads {
        let (publisher, options) = (publisher.clone(), options.clone());
        let thread = std::thread::spawn(move || {
            block_on(send_all(&publisher, &options)).map_err(|error| error.to_string())
        });
        while !thread.is_finished() {
            // The outcomes are read on this thread meanwhile.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        thread.join().map_err(|_| "the publishing thread panicked")??;
    } else {
        send_all(&publisher, options).await?;
    }
    let open = publisher.flush(Duration::from_secs(60)).await;
    let took = begin.elapsed();
    if open > 0 {
        return Err(format!("{open} messages without an outcome").into());
    }
    sink.check(options.count)?;
    rate(options, took, cpu_seconds()? - cpu, &mut [])
}

async fn sync(queue: &Nats, options: &Options) -> Fallible<String> {
    let sink = Arc::new(Sink::default());
    let publisher = queue.publisher(Arc::clone(&sink) as Arc<dyn Completions>).await?;
    let payload = Message::new(vec![b'x'; options.payload]);
    let mut times = Vec::with_capacity(usize::try_from(options.count)?);
    let (begin, cpu) = (Instant::now(), cpu_seconds()?);
    for n in 0..options.count {
        let sent = Instant::now();
        let _pending = publisher.publish(message(options, &payload, n), Token(n)).await?;
        sink.each.notified().await;
        times.push(sent.elapsed());
    }
    let took = begin.elapsed();
    sink.check(options.count)?;
    rate(options, took, cpu_seconds()? - cpu, &mut times)
}

async fn consume(queue: &Nats, options: &Options) -> Fallible<String> {
    publish(queue, options).await?;
    let subscribe = SubscribeOptions {
        group: "rates".to_owned(),
        prefetch: options.prefetch,
        acknowledge: Acknowledge::Explicit,
    };
    let mut subscriber = queue.subscriber(subscribe).await?;
    let mut batch = Vec::with_capacity(options.batch);
    let mut taken = 0;
    let (begin, cpu) = (Instant::now(), cpu_seconds()?);
    while taken < options.count {
        subscriber.recv_batch(options.batch, &mut batch).await?;
        for delivery in batch.drain(..) {
            if delivery.message().payload.len() != options.payload {
                return Err("a payload arrived changed".into());
            }
            taken += 1;
            delivery.ack().await?;
        }
    }
    // The server works through a connection in order: when it knows of no open delivery, all were read.
    while queue.depth().await?.total() != Some(0) {}
    rate(options, begin.elapsed(), cpu_seconds()? - cpu, &mut [])
}

fn rate(options: &Options, took: Duration, cpu_s: f64, times: &mut [Duration]) -> Fallible<String> {
    times.sort_unstable();
    let percentile = |share: usize| {
        times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).map(Duration::as_micros)
    };
    let figures = [("p50_us", 50), ("p90_us", 90), ("p95_us", 95), ("p99_us", 99)]
        .into_iter()
        .filter_map(|(name, share)| Some(format!(",\"{name}\":{}", percentile(share)?)))
        .collect::<String>();
    let count = u32::try_from(options.count)?;
    Ok(format!(
        "{{\"mode\":\"{}\",\"payload\":{},\"messages\":{count},\"per_s\":{:.0},\"client_cpu_s\":{cpu_s:.2}{figures}}}",
        options.mode,
        options.payload,
        f64::from(count) / took.as_secs_f64(),
    ))
}

/// User and system time of this process, from `/proc/self/stat` in its hundredths of a second.
fn cpu_seconds() -> Fallible<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("no process name in /proc/self/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Fallible<u32> { Ok(fields.get(at).ok_or("too short")?.parse()?) };
    Ok(f64::from(ticks(11)? + ticks(12)?) / 100.0)
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future without a runtime, as the harness's pacing threads do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park();
    }
}
