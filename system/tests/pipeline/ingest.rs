//! The ingest service, section 2.2 of the interface.

use http::Method;

use crate::client::{Http, free_port, ingest_config, pipeline};
use queuebench_system::pipeline::ingest;

#[tokio::test]
async fn accepted_bodies_get_a_fresh_id() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.ingest.address();
    let mut ids = std::collections::BTreeSet::new();
    for body in [
        r#"{"source":"meter-7","data":"kwh=12.4","metadata":{"site":"north"}}"#,
        "{}",
        "null",
        r#"{"source":"","data":""}"#,
        r#"{"SOURCE":"a","DATA":"b","unknown":{"x":[1]}} trailing"#,
        r#"{"metadata":{"n":1,"b":true,"z":null}}"#,
        r#"{"payload":"not data"}"#,
    ] {
        let answer = http.post(to, "/ingest", body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        assert_eq!(json["status"], "accepted");
        assert!(!answer.body.contains("error"));
        let id = json["messageId"].as_str().unwrap().to_owned();
        let parsed = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(parsed.get_version_num(), 4);
        assert!(ids.insert(id), "an id came twice");
    }
    let stats = http.json(to, "/stats").await;
    assert_eq!(stats, serde_json::json!({"TotalReceived":7,"TotalSent":7,"TotalFailed":0}));
    pipeline.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn refused_requests_touch_no_counter_of_messages() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.ingest.address();
    for body in ["", "{", "[]", r#"{"source":1}"#, r#"{"metadata":{"a":[]}}"#, r#"{"metadata":{"a":{}}}"#] {
        http.post(to, "/ingest", body).await.assert_plain(400, "Invalid request body");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = http.request(method, to, "/ingest", "{}").await;
        answer.assert_plain(405, "Method not allowed");
        assert!(!answer.headers.contains_key("allow"));
    }
    http.get(to, "/nothing").await.assert_plain(404, "404 page not found");
    http.post(to, "/ingestfoo", "{}").await.assert_plain(404, "404 page not found");
    let stats = http.json(to, "/stats").await;
    assert_eq!(stats, serde_json::json!({"TotalReceived":0,"TotalSent":0,"TotalFailed":0}));
    assert_eq!(http.metric(to, r#"ingest_requests_total{status="bad_request"}"#).await, Some(6.0));
    assert_eq!(http.metric(to, r#"ingest_requests_total{status="method_not_allowed"}"#).await, Some(3.0));
    assert_eq!(http.metric(to, "processor_worker_pool_size").await, None, "not this service's series");
}

#[tokio::test]
async fn health_and_metrics_answer_any_method_and_readiness_follows_the_processor() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.ingest.address();
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let answer = http.request(method.clone(), to, "/health", "").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"healthy":true}"#));
        assert_eq!(http.request(method.clone(), to, "/stats", "").await.status, 200);
        assert_eq!(http.request(method, to, "/metrics", "").await.status, 200);
    }
    assert_eq!(http.get(to, "/ready").await.status, 200);
    let alone = ingest::start(ingest_config(&format!("http://{}", free_port().await))).await.unwrap();
    assert_eq!(http.get(alone.address(), "/ready").await.status, 503);
    assert_eq!(http.get(alone.address(), "/health").await.status, 200);
}

#[tokio::test]
async fn without_a_processor_messages_fail_and_are_counted() {
    let http = Http::new();
    let ingest = ingest::start(ingest_config(&format!("http://{}", free_port().await))).await.unwrap();
    for _ in 0..3 {
        let answer = http.post(ingest.address(), "/ingest", "{}").await;
        answer.assert_plain(503, "Failed to process message");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let stats = http.json(ingest.address(), "/stats").await;
    assert_eq!(stats, serde_json::json!({"TotalReceived":3,"TotalSent":0,"TotalFailed":3}));
    let failed = r#"ingest_messages_processed_total{status="failed"}"#;
    assert_eq!(http.metric(ingest.address(), failed).await, Some(3.0));
}

#[tokio::test]
async fn validation_is_opt_in() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let processor = format!("http://{}", pipeline.processor.address());
    let strict =
        queuebench_system::pipeline::config::IngestConfig { validate: true, ..ingest_config(&processor) };
    let strict = ingest::start(strict).await.unwrap();
    http.post(strict.address(), "/ingest", "{}").await.assert_plain(400, "Invalid request body");
    let answer = http.post(strict.address(), "/ingest", r#"{"source":"a","data":"b"}"#).await;
    assert_eq!(answer.status, 200);
}
