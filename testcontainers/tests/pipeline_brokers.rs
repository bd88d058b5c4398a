//! The whole pipeline over real brokers: NATS, Kafka, and a composite of both.
//!
//! The steps of the integration test that deployments run: ten posts through the gateway, ten answers 200, and
//! the processed count rises by exactly ten. Then the processor restarts with messages in hand and in the
//! queue, and every message that was acknowledged to a client is processed. Where a broker cannot be started
//! the test prints why and is left out; with `QUEUEBENCH_REQUIRE` it fails.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use queuebench_system::pipeline::config::{Env, Settings};
use queuebench_system::pipeline::embedded::{self, Embedded};
use queuebench_system::pipeline::processor::{Parts, Prefix, Processing, ProcessingError, ProcessingResult};
use queuebench_system::pipeline::wire::DataMessage;
use queuebench_testcontainers::{Backend, Running, StartError, StartOptions, require, start};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// No single step takes this long unless it hangs: longer than a broker waits before it delivers again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is to come about.
const LOOK: Duration = Duration::from_millis(20);

/// A broker of this test's own, since the pipeline's names are fixed.
async fn broker(backend: Backend) -> Option<Running> {
    let options = StartOptions {
        external: None,
        // A busy machine gives a broker little time to start.
        time_limit: Duration::from_secs(240),
        ..StartOptions::from_env(backend)
    };
    match start(backend, options).await {
        Ok(running) => Some(running),
        Err(
            error @ (StartError::NoWay { .. }
            | StartError::MissingToolchain { .. }
            | StartError::Engine { .. }
            | StartError::Image { .. }),
        ) => {
            require::skip(&[backend.name()], &error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Standard processing that stands still until it is let go, message by message.
struct Gated(Arc<Semaphore>);

impl Processing for Gated {
    async fn process(&self, message: &DataMessage) -> Result<Vec<u8>, ProcessingError> {
        let Ok(permit) = self.0.acquire().await else {
            return Err(ProcessingError::Retry("the gate is gone".to_owned()));
        };
        permit.forget();
        Prefix.process(message).await
    }
}

/// One pipeline, what it has processed, and the gate before its processing.
struct Subject {
    pipeline: Embedded,
    processed: watch::Receiver<Vec<String>>,
    gate: Arc<Semaphore>,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Subject {
    async fn start(environment: &[(&str, &str)], open_gate: bool) -> Self {
        let mut settings = Settings::load(None, &Env::of(environment)).unwrap();
        // Deadlines that a busy test machine keeps.
        settings.gateway.ingest.timeout_ms = 30_000;
        settings.ingest.processor.timeout_ms = 25_000;
        settings.processor.publish_timeout_ms = 20_000;
        // Few messages in hand, so that most wait in the broker.
        (settings.processor.workers, settings.processor.batch, settings.processor.prefetch) = (2, 1, 8);
        let (sender, processed) = watch::channel(Vec::new());
        let gate = Arc::new(Semaphore::new(if open_gate { Semaphore::MAX_PERMITS } else { 0 }));
        let Parts { queue, dead_letters, .. } = Parts::open(&settings.processor).await.unwrap();
        let results = move |result: &ProcessingResult| {
            assert!(result.success, "{}", result.error);
            sender.send_modify(|ids| ids.push(result.message_id.clone()));
        };
        let parts = Parts {
            queue,
            processing: Gated(Arc::clone(&gate)),
            dead_letters,
            results: Some(Arc::new(results)),
        };
        let pipeline = embedded::start_with(settings, parts).await.unwrap();
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { pipeline, processed, gate, http }
    }

    async fn send(&self, request: http::Request<Full<Bytes>>) -> (u16, serde_json::Value) {
        let answer = tokio::time::timeout(PATIENCE, self.http.request(request)).await.unwrap().unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{status} {body:?}")))
    }

    /// Posts messages to the public route; the ids under which they were acknowledged.
    async fn post(&self, count: usize) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for index in 0..count {
            let body = format!(r#"{{"source":"test-{index}","data":"x","metadata":{{"seq":"{index}"}}}}"#);
            let request = http::Request::post(format!("http://{}/api/v1/ingest", self.pipeline.address()));
            let (status, answer) = self.send(request.body(Full::new(body.into())).unwrap()).await;
            assert_eq!(status, 200, "{answer}");
            ids.insert(answer["messageId"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), count, "every message has an id of its own");
        ids
    }

    async fn stats(&self) -> serde_json::Value {
        let request = http::Request::get(format!("http://{}/stats", self.pipeline.processor.address()));
        self.send(request.body(Full::default()).unwrap()).await.1
    }

    async fn until_processed(&self, at_least: usize) {
        let mut processed = self.processed.clone();
        let enough = processed.wait_for(|ids| ids.len() >= at_least);
        tokio::time::timeout(PATIENCE, enough).await.expect("processed in time").unwrap();
    }

    /// Asks for statistics until nothing is left in the queue and so many are counted.
    async fn until_empty(&self, at_least: usize) -> serde_json::Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats().await;
            let counted = stats["pool"]["ProcessedCount"].as_u64().unwrap();
            if stats["queue"]["CurrentSize"] == 0 && counted >= at_least as u64 {
                return stats;
            }
            assert!(Instant::now() < until, "still in the queue: {stats}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ids(&self) -> BTreeSet<String> {
        self.processed.borrow().iter().cloned().collect()
    }

    async fn shutdown(&self) {
        self.pipeline.shutdown(PATIENCE).await.unwrap();
    }
}

/// Waits until nobody listens there any more.
async fn until_refused(address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < until, "still listening");
        tokio::time::sleep(LOOK).await;
    }
}

async fn ten_posts_are_ten_messages(environment: &[(&str, &str)]) {
    let subject = Subject::start(environment, true).await;
    assert_eq!(subject.stats().await["pool"]["ProcessedCount"], 0);
    let sent = subject.post(10).await;
    subject.until_processed(10).await;
    let stats = subject.until_empty(10).await;
    assert_eq!(stats["pool"]["ProcessedCount"], 10, "{stats}");
    assert_eq!(stats["queue"]["TotalEnqueued"], 10, "{stats}");
    assert_eq!(stats["pool"]["ErrorCount"], 0, "{stats}");
    assert_eq!(subject.ids(), sent);
    subject.shutdown().await;
}

async fn a_restart_midway_loses_nothing(environment: &[(&str, &str)]) {
    const SENT: usize = 40;
    const BEFORE: usize = 5;
    // Let go one by one during the shutdown: what the two workers hold is done, most of the rest is not.
    const PERMIT_INTERVAL: Duration = Duration::from_millis(100);
    let first = Subject::start(environment, false).await;
    let sent = first.post(SENT).await;
    first.gate.add_permits(BEFORE);
    first.until_processed(BEFORE).await;
    let processor = first.pipeline.processor.address();
    let let_go = async {
        until_refused(processor).await;
        loop {
            first.gate.add_permits(1);
            tokio::time::sleep(PERMIT_INTERVAL).await;
        }
    };
    tokio::select! {
        () = first.shutdown() => {}
        () = let_go => {}
    }
    let done = first.ids();
    assert!(done.len() >= BEFORE && done.len() < SENT, "{}", done.len());
    drop(first);

    let second = Subject::start(environment, true).await;
    second.until_processed(SENT - done.len()).await;
    second.until_empty(SENT - done.len()).await;
    let all: BTreeSet<_> = done.union(&second.ids()).cloned().collect();
    assert_eq!(all, sent, "what was acknowledged is what was processed");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_keeps_its_word_over_every_durable_queue() {
    let Some(nats) = broker(Backend::Nats).await else { return };
    let Some(kafka) = broker(Backend::Kafka).await else { return };
    let url = format!("nats://{}", nats.address().trim_start_matches("nats://"));
    // One after the other on the same brokers, as when a deployment changes its QUEUE_TYPE.
    for (queue_type, strategy) in
        [("nats", ""), ("kafka", ""), ("composite", "fail-fast"), ("composite", "best-effort")]
    {
        let environment = [
            ("QUEUE_TYPE", queue_type),
            ("NATS_URL", url.as_str()),
            ("KAFKA_BROKERS", kafka.address()),
            // The first one makes a topic of one partition, as a broker does that is asked for an unknown topic;
            // the others find it.
            ("KAFKA_PARTITIONS", if queue_type == "kafka" { "1" } else { "4" }),
            ("COMPOSITE_PROVIDERS", "nats, kafka"),
            ("COMPOSITE_STRATEGY", strategy),
        ];
        ten_posts_are_ten_messages(&environment).await;
        a_restart_midway_loses_nothing(&environment).await;
    }
    nats.stop(Duration::from_secs(20)).await.unwrap();
    kafka.stop(Duration::from_secs(20)).await.unwrap();
}
