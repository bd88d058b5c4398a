//! Our HTTP client for load as a program, to be put beside wrk and oha on the same server:
//!
//!     three_hops 18082 &
//!     http_generator 127.0.0.1:18082 64 10          closed: 64 connections for 10 s
//!     http_generator 127.0.0.1:18082 64 10 5000     open: 5,000/s, latency from the due time
//!     wrk -t2 -c64 -d10s -s benches/post.lua http://127.0.0.1:18082/ingest
//!     oha -z 10s -c 64 -q 5000 --latency-correction -m POST -d … http://127.0.0.1:18082/ingest
//!
//! It is the publisher of `compare pipeline`, with a message of 54 bytes, so that bodies are as long as wrk's.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use queuebench::clock::{self, Pacing};
use queuebench::subject::Backend;
use queuebench::subject::pipeline::{Pipeline, PipelineConfig, PipelinePublisher};
use queuebench_system::message::Message;
use queuebench_system::queue::{Completions, Outcome, Publisher, Queue, Token};

/// Counts answers and how long they took; a token is the moment a request was due.
#[derive(Debug)]
struct Sink(parking_lot::Mutex<Figures>);

#[derive(Debug)]
struct Figures {
    answered_ns: Histogram<u64>,
    failed: u64,
}

impl Completions for Sink {
    fn complete(&self, token: Token, outcome: Outcome) {
        let took = clock::now().saturating_sub(token.0);
        let mut figures = self.0.lock();
        match outcome {
            Outcome::Acknowledged => figures.answered_ns.saturating_record(took),
            _ => figures.failed += 1,
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, seconds, rate @ ..] = &arguments[..] else {
        return Err("usage: http_generator ADDRESS CONNECTIONS SECONDS [RATE]".into());
    };
    let seconds: u64 = seconds.parse()?;
    let rate: Option<u64> = rate.first().map(|rate| rate.parse()).transpose()?;
    let config = PipelineConfig {
        connections: connections.parse()?,
        gateway: address.clone(),
        feeds: vec![address.clone()],
        ..PipelineConfig::over(Backend::Memory)
    };
    let sink =
        Arc::new(Sink(parking_lot::Mutex::new(Figures { answered_ns: Histogram::new(3)?, failed: 0 })));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pipeline = Pipeline::open(config)?;
    let completions = Arc::clone(&sink) as Arc<dyn Completions>;
    let took = runtime.block_on(async {
        let publisher = pipeline.publisher(completions).await?;
        let begun = clock::now();
        let end = begun + seconds * 1_000_000_000;
        match rate {
            None => closed(&publisher, end).await,
            Some(rate) => open(publisher.clone(), begun, end, rate).await,
        }
        publisher.flush(Duration::from_secs(5)).await;
        Ok::<_, queuebench_system::queue::QueueError>(clock::now() - begun)
    })?;
    let figures = sink.0.lock();
    let (answered, ms) = (&figures.answered_ns, |ns: u64| Duration::from_nanos(ns).as_secs_f64() * 1e3);
    println!(
        "RESULT rate={:.0} p50={:.3} p95={:.3} p99={:.3} max={:.3} ms errors={}",
        f64::from(u32::try_from(answered.len())?) / Duration::from_nanos(took).as_secs_f64(),
        ms(answered.value_at_quantile(0.5)),
        ms(answered.value_at_quantile(0.95)),
        ms(answered.value_at_quantile(0.99)),
        ms(answered.max()),
        figures.failed
    );
    Ok(())
}

fn message() -> Message {
    Message::new(&b"kwh=12.4 volts=229.8 amps=3.2 phase=1 ok=true site=1 n"[..])
}

/// As many requests in work as there are connections.
async fn closed(publisher: &PipelinePublisher, end: u64) {
    let mut since_yield = 0_u32;
    loop {
        let now = clock::now();
        if now >= end || publisher.publish(message(), Token(now)).await.is_err() {
            return;
        }
        since_yield += 1;
        if since_yield >= 64 {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// On a schedule, from a thread that sleeps until each request is due.
async fn open(publisher: PipelinePublisher, begun: u64, end: u64, rate: u64) {
    let (done, finished) = tokio::sync::oneshot::channel();
    let pacer = std::thread::spawn(move || {
        clock::sharpen_this_thread();
        for slot in 0.. {
            let due = begun + slot * 1_000_000_000 / rate;
            if due >= end {
                break;
            }
            clock::sleep_until(due, Pacing::default(), || false);
            if futures_executor::block_on(publisher.publish(message(), Token(due))).is_err() {
                break;
            }
        }
        let _ = done.send(());
    });
    // The pacer's last word, or its end.
    let _ = finished.await;
    let _ = pacer.join();
}
