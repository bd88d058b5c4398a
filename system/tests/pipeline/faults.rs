//! Services that stop, restart and fill up while clients go on.

use std::sync::Arc;
use std::time::Duration;

use queuebench_system::pipeline::config::{GatewayConfig, ProcessorConfig, ServerConfig, UpstreamConfig};
use queuebench_system::pipeline::processor::{Parts, ProcessingResult};
use queuebench_system::pipeline::{gateway, ingest, processor};
use queuebench_system::queue::{Memory, MemoryConfig};

use crate::client::{Http, eventually, ingest_config, pipeline, processor_config};

#[tokio::test]
async fn a_processor_that_restarts_is_found_again() {
    let http = Http::new();
    let first = processor::start(processor_config()).await.unwrap();
    let address = first.address();
    let ingest = ingest::start(ingest_config(&format!("http://{address}"))).await.unwrap();
    let url = format!("http://{}", ingest.address());
    let gateway = GatewayConfig {
        server: ServerConfig::loopback(),
        ingest: UpstreamConfig::to(&url),
        ..GatewayConfig::default()
    };
    let gateway = gateway::start(gateway).await.unwrap();
    let post = || http.post(gateway.address(), "/ingest", "{}");
    assert_eq!(post().await.status, 200);
    first.shutdown(Duration::from_secs(5)).await.unwrap();
    post().await.assert_plain(503, "Failed to process message");
    let server = ServerConfig { port: address.port(), ..ServerConfig::loopback() };
    let second = processor::start(ProcessorConfig { server, ..processor_config() }).await.unwrap();
    eventually("recovery", post, |answer| answer.status == 200).await;
    second.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn work_is_shared_among_several_processors_and_one_that_stops_is_passed_over() {
    let http = Http::new();
    let one = processor::start(processor_config()).await.unwrap();
    let two = processor::start(processor_config()).await.unwrap();
    let urls = format!("http://{}, http://{}", one.address(), two.address());
    let ingest = ingest::start(ingest_config(&urls)).await.unwrap();
    for _ in 0..40 {
        assert_eq!(http.post(ingest.address(), "/ingest", "{}").await.status, 200);
    }
    for processor in [&one, &two] {
        let stats = http.json(processor.address(), "/stats").await;
        assert!(stats["queue"]["TotalEnqueued"].as_u64().unwrap() >= 10, "{stats}");
    }
    one.shutdown(Duration::from_secs(5)).await.unwrap();
    for _ in 0..40 {
        assert_eq!(http.post(ingest.address(), "/ingest", "{}").await.status, 200);
    }
    two.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_everything_stops_under_load() {
    let processed = Arc::new(parking_lot::Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
    let sink = Arc::clone(&processed);
    let queue = Memory::open(MemoryConfig { capacity: 100_000, ..MemoryConfig::default() }).unwrap();
    let parts = Parts {
        results: Some(Arc::new(move |result: &ProcessingResult| {
            *sink.lock().entry(result.message_id.clone()).or_default() += 1;
        })),
        ..Parts::over(queue)
    };
    let settings = crate::client::settings();
    let pipeline = queuebench_system::pipeline::embedded::start_with(settings, parts).await.unwrap();
    let to = pipeline.address();
    let started = Arc::new(tokio::sync::Barrier::new(17));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let started = Arc::clone(&started);
        clients.spawn(async move {
            let (http, mut accepted) = (crate::client::Client::connect(to).await, Vec::new());
            let mut http = http;
            let mut waited = false;
            // Ends when the gateway no longer answers.
            while let Some((status, body)) = http.post("/ingest", r#"{"source":"s","data":"d"}"#).await {
                if status == 200 {
                    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
                    accepted.push(json["messageId"].as_str().unwrap().to_owned());
                }
                if !waited && accepted.len() >= 50 {
                    waited = true;
                    started.wait().await;
                }
            }
            accepted
        });
    }
    started.wait().await;
    pipeline.shutdown(Duration::from_secs(10)).await.unwrap();
    let accepted: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    assert!(accepted.len() >= 800);
    let processed = processed.lock();
    let lost: Vec<_> = accepted.iter().filter(|id| !processed.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} lost", lost.len(), accepted.len());
    let twice = processed.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "processed twice");
}

#[tokio::test]
async fn a_full_queue_is_passed_back_to_the_client_as_503() {
    let http = Http::new();
    let pipeline = pipeline().await;
    let full =
        processor::start(ProcessorConfig { queue_size: 1, workers: 1, ..processor_config() }).await.unwrap();
    let ingest = ingest::start(ingest_config(&format!("http://{}", full.address()))).await.unwrap();
    // A queue of one overflows as soon as two messages travel together.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (http, to) = (http.clone(), ingest.address());
        tasks.spawn(async move { http.post(to, "/ingest", "{}").await });
    }
    let answers = tasks.join_all().await;
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(refused > 0 && refused < 200, "{refused}");
    for answer in answers.iter().filter(|answer| answer.status == 503) {
        answer.assert_plain(503, "Failed to process message");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let stats = http.json(ingest.address(), "/stats").await;
    assert_eq!(stats["TotalFailed"], refused);
    assert_eq!(stats["TotalSent"], 200 - refused);
    pipeline.shutdown(Duration::from_secs(5)).await.unwrap();
}
