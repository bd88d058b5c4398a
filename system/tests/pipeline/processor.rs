//! The processor, section 2.3 of the interface, and its workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use queuebench_system::pipeline::config::ProcessorConfig;
use queuebench_system::pipeline::processor::{
    self, Parts, Prefix, Processing, ProcessingError, ProcessingResult,
};
use queuebench_system::pipeline::wire::DataMessage;
use queuebench_system::queue::{Memory, MemoryConfig};
use tokio::sync::Semaphore;

use crate::client::{Http, eventually, processor_config};

fn memory(capacity: usize) -> Memory<queuebench_system::message::Message> {
    Memory::open(MemoryConfig { capacity, ..MemoryConfig::default() }).unwrap()
}

/// Waits for a permit per message.
struct Gated(Arc<Semaphore>);

impl Processing for Gated {
    async fn process(&self, message: &DataMessage) -> Result<Vec<u8>, ProcessingError> {
        self.0.acquire().await.unwrap().forget();
        Ok(message.payload.clone())
    }
}

/// Fails by what the payload says.
struct Moody {
    attempts: Arc<AtomicU32>,
}

impl Processing for Moody {
    async fn process(&self, message: &DataMessage) -> Result<Vec<u8>, ProcessingError> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        match message.payload.as_slice() {
            b"never" => Err(ProcessingError::Retry("not in this life".into())),
            b"fatal" => Err(ProcessingError::Fatal("wrong kind".into())),
            b"panic" => panic!("a bug in the processing"),
            b"third" if attempt < 3 => Err(ProcessingError::Retry("not yet".into())),
            other => Ok(other.to_vec()),
        }
    }
}

fn body(id: &str, payload: &str) -> String {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.encode(payload);
    format!(r#"{{"id":"{id}","timestamp":1735689600,"source":"s","payload":"{payload}"}}"#)
}

#[tokio::test]
async fn messages_are_accepted_processed_and_counted_once() {
    let results = Arc::new(Mutex::new(Vec::<ProcessingResult>::new()));
    let sink = Arc::clone(&results);
    let parts = Parts {
        results: Some(Arc::new(move |result: &ProcessingResult| sink.lock().push(result.clone()))),
        ..Parts::over(memory(1000))
    };
    let processor = processor::start_with(processor_config(), parts).await.unwrap();
    let (http, to) = (Http::new(), processor.address());
    for index in 0..39 {
        let answer = http.post(to, "/enqueue", &body(&format!("m-{index}"), "kwh=12.4")).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (202, ""));
    }
    let stats = eventually(
        "processing",
        || http.json(to, "/stats"),
        |stats| stats["pool"]["ProcessedCount"] == 39 && stats["queue"]["CurrentSize"] == 0,
    )
    .await;
    assert_eq!(stats["queue"]["TotalEnqueued"], 39);
    assert_eq!(stats["queue"]["TotalDequeued"], 39);
    assert_eq!(stats["queue"]["size"], 0);
    assert_eq!(stats["queue"]["capacity"], 1000);
    assert_eq!(stats["pool"]["ErrorCount"], 0);
    assert_eq!(stats["pool"]["processed"], 39);
    assert_eq!(stats["pool"]["errors"], 0);
    assert_eq!(stats["pool"]["workers"], 4);
    assert!(stats["pool"]["TotalDuration"].as_u64().unwrap() > 0);
    let mut ids: Vec<_> = results.lock().iter().map(|result| result.message_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 39);
    let one = results.lock()[0].clone();
    assert!(one.success && one.result == b"PROCESSED_kwh=12.4", "{one:?}");

    assert_eq!(http.metric(to, r#"processor_messages_total{status="processed"}"#).await, Some(39.0));
    assert_eq!(http.metric(to, "messages_processed_total").await, Some(39.0));
    assert_eq!(http.metric(to, "processor_worker_pool_size").await, Some(4.0));
    assert_eq!(http.metric(to, "worker_pool_active").await, Some(0.0));
    assert_eq!(http.metric(to, "queue_capacity").await, Some(1000.0));
    let count = r#"processor_processing_duration_seconds_count{status="success"}"#;
    assert_eq!(http.metric(to, count).await, Some(39.0));
    for name in ["processor_queue_size", "queue_size", "queue_current_size"] {
        eventually("an empty queue", || http.metric(to, name), |depth| *depth == Some(0.0)).await;
    }
    processor.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn wrong_requests_are_refused_as_the_table_says() {
    let processor = processor::start(processor_config()).await.unwrap();
    let (http, to) = (Http::new(), processor.address());
    for body in
        ["", "{", "[]", r#"{"payload":"not base64"}"#, r#"{"timestamp":"1"}"#, r#"{"metadata":{"a":1}}"#]
    {
        http.post(to, "/enqueue", body).await.assert_plain(400, "Invalid request body");
    }
    http.get(to, "/enqueue").await.assert_plain(405, "Method not allowed");
    http.get(to, "/enqueue/").await.assert_plain(404, "404 page not found");
    for method in [Method::GET, Method::PUT] {
        assert_eq!(http.request(method, to, "/health", "").await.body, r#"{"healthy":true}"#);
    }
    assert_eq!(http.post(to, "/enqueue", "null").await.status, 202, "no field is required");
    processor.shutdown(Duration::from_secs(5)).await.unwrap();
    let bad = processor::start(ProcessorConfig { queue_type: "rabbit".into(), ..processor_config() }).await;
    assert!(bad.unwrap_err().to_string().starts_with("QUEUE_TYPE is rabbit: memory"));
    let none = processor::start(ProcessorConfig { workers: 0, ..processor_config() }).await;
    assert!(none.unwrap_err().to_string().contains("PROCESSOR_WORKERS"));
}

#[tokio::test]
async fn a_full_queue_is_503_and_its_bound_is_exact() {
    let gate = Arc::new(Semaphore::new(0));
    let parts =
        Parts { queue: memory(10), processing: Gated(Arc::clone(&gate)), dead_letters: None, results: None };
    let processor = processor::start_with(processor_config(), parts).await.unwrap();
    let (http, to) = (Http::new(), processor.address());
    for index in 0..10 {
        assert_eq!(http.post(to, "/enqueue", &body(&index.to_string(), "x")).await.status, 202);
    }
    let full = http.post(to, "/enqueue", &body("11", "x")).await;
    full.assert_plain(503, "Queue is full");
    assert_eq!(full.header("retry-after"), "1");
    assert_eq!(http.json(to, "/stats").await["queue"]["CurrentSize"], 10);
    assert_eq!(http.metric(to, r#"processor_refused_total{reason="queue_full"}"#).await, Some(1.0));
    gate.add_permits(10);
    eventually("work", || http.json(to, "/stats"), |stats| stats["pool"]["ProcessedCount"] == 10).await;
    assert_eq!(http.post(to, "/enqueue", &body("12", "x")).await.status, 202);
    gate.add_permits(1);
    processor.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn failures_are_tried_again_and_end_as_dead_letters_without_holding_up_others() {
    let attempts = Arc::new(AtomicU32::new(0));
    let processing = Moody { attempts: Arc::clone(&attempts) };
    let parts = Parts { queue: memory(1000), processing, dead_letters: None, results: None };
    // One worker: if a failing message held it, nothing else would get through.
    let config = ProcessorConfig { workers: 1, retry_delay_ms: 5, max_attempts: 3, ..processor_config() };
    let processor = processor::start_with(config, parts).await.unwrap();
    let (http, to) = (Http::new(), processor.address());
    assert_eq!(http.post(to, "/enqueue", &body("third-time", "third")).await.status, 202);
    eventually("the third attempt", || http.json(to, "/stats"), |s| s["pool"]["ProcessedCount"] == 1).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 3);

    attempts.store(0, Ordering::SeqCst);
    for payload in ["never", "fatal", "panic"] {
        assert_eq!(http.post(to, "/enqueue", &body(payload, payload)).await.status, 202);
    }
    for index in 0..20 {
        assert_eq!(http.post(to, "/enqueue", &body(&format!("good-{index}"), "good")).await.status, 202);
    }
    let stats = eventually(
        "all ends",
        || http.json(to, "/stats"),
        |s| {
            s["pool"]["ProcessedCount"] == 21
                && s["pool"]["ErrorCount"] == 3
                && s["queue"]["CurrentSize"] == 0
        },
    )
    .await;
    assert_eq!(stats["queue"]["TotalDequeued"], 24, "retries take nothing out twice");
    let letters: std::collections::BTreeMap<_, _> = processor
        .dead_letters()
        .into_iter()
        .map(|letter| (letter.message.id.to_string(), (letter.attempts, letter.reason)))
        .collect();
    assert_eq!(letters["never"], (3, "not in this life".to_owned()));
    assert_eq!(letters["fatal"], (1, "wrong kind".to_owned()));
    assert_eq!(letters["panic"], (3, "processing panicked".to_owned()));
    assert_eq!(http.metric(to, r#"processor_messages_total{status="error"}"#).await, Some(3.0));
    assert_eq!(http.metric(to, "processor_dead_letters_total").await, Some(3.0));
    let listing = http.json(to, "/dead-letters").await;
    assert_eq!(listing["dead_letters"].as_array().unwrap().len(), 3);
    assert!(!listing.to_string().contains("bmV2ZXI"), "contents stay inside");
    processor.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn what_the_queue_holds_that_cannot_be_read_becomes_a_dead_letter_at_once() {
    use queuebench_system::queue::{Completions, Outcome, Publisher as _, Queue as _, Submitted, Token};
    struct Ignore;
    impl Completions for Ignore {
        fn complete(&self, _: Token, _: Outcome) {}
    }
    let queue = memory(10);
    let parts = Parts { queue: queue.clone(), processing: Prefix, dead_letters: None, results: None };
    let processor = processor::start_with(processor_config(), parts).await.unwrap();
    let publisher = queue.publisher(Arc::new(Ignore)).await.unwrap();
    let junk = queuebench_system::message::Message::new(&b"\xff not json"[..]);
    assert_eq!(publisher.publish(junk, Token(1)).await.unwrap(), Submitted::Acknowledged);
    let http = Http::new();
    eventually(
        "a dead letter",
        || http.json(processor.address(), "/stats"),
        |s| s["pool"]["ErrorCount"] == 1,
    )
    .await;
    assert_eq!(processor.dead_letters()[0].attempts, 0);
    processor.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn shutting_down_works_off_everything_that_was_acknowledged() {
    let gate = Arc::new(Semaphore::new(0));
    let done = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&done);
    let parts = Parts {
        queue: memory(1000),
        processing: Gated(Arc::clone(&gate)),
        dead_letters: None,
        results: Some(Arc::new(move |_: &ProcessingResult| {
            counted.fetch_add(1, Ordering::SeqCst);
        })),
    };
    let processor = processor::start_with(processor_config(), parts).await.unwrap();
    let http = Http::new();
    for index in 0..200 {
        assert_eq!(
            http.post(processor.address(), "/enqueue", &body(&index.to_string(), "x")).await.status,
            202
        );
    }
    assert_eq!(done.load(Ordering::SeqCst), 0);
    let (stopped, ()) = tokio::join!(processor.shutdown(Duration::from_secs(10)), async {
        gate.add_permits(200);
    });
    stopped.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn shutting_down_is_bounded_and_says_what_was_left() {
    let gate = Arc::new(Semaphore::new(0));
    let parts = Parts { queue: memory(1000), processing: Gated(gate), dead_letters: None, results: None };
    let processor = processor::start_with(processor_config(), parts).await.unwrap();
    let http = Http::new();
    for index in 0..7 {
        assert_eq!(
            http.post(processor.address(), "/enqueue", &body(&index.to_string(), "x")).await.status,
            202
        );
    }
    let begun = std::time::Instant::now();
    let error = processor.shutdown(Duration::from_millis(300)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(error.to_string(), "memory closed at its deadline with 7 messages unanswered");
}
