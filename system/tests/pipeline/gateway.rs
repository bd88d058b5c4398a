//! The gateway, section 2.1 of the interface, and the defects of section 10 that concern it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use queuebench_system::pipeline::config::{GatewayConfig, ServerConfig, UpstreamConfig};
use queuebench_system::pipeline::{embedded, gateway};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Http, eventually, free_port, pipeline, settings};
use crate::tls::TlsEdge;

const BODY: &str = r#"{"source":"meter-7","data":"kwh=12.4","metadata":{"vu":1,"spike":true}}"#;

fn config(ingest: &str, processor: &str) -> GatewayConfig {
    GatewayConfig {
        server: ServerConfig::loopback(),
        ingest: UpstreamConfig::to(ingest),
        processor: UpstreamConfig::to(processor),
        ..GatewayConfig::default()
    }
}

/// A service of another make: answers every request on a connection with `answer`, and keeps what it was sent.
async fn stranger(answer: &'static str) -> (String, Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    request.extend_from_slice(&chunk[..count]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
                        .unwrap_or(0);
                    if body.len() >= length {
                        log.lock().push(text);
                        request.clear();
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (url, seen)
}

#[tokio::test]
async fn all_three_ingest_routes_are_one_handler() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.address();
    for path in ["/ingest", "/api/v1/ingest", "/api/ingest"] {
        let answer = http.post(to, path, BODY).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        assert_eq!(json["status"], "accepted");
        uuid::Uuid::parse_str(json["messageId"].as_str().unwrap()).unwrap();
        let message =
            if path == "/api/ingest" { "Data ingested successfully".into() } else { serde_json::Value::Null };
        assert_eq!(json["message"], message);
        http.post(to, path, "{").await.assert_plain(400, "Invalid request body");
        http.get(to, path).await.assert_plain(405, "Method not allowed");
    }
    assert_eq!(http.post(to, "/enqueue", r#"{"id":"a1"}"#).await.status, 202);
    http.post(to, "/enqueue", "[]").await.assert_plain(400, "Invalid request body");
    eventually(
        "processing",
        || http.json(pipeline.processor.address(), "/stats"),
        |stats| stats["pool"]["ProcessedCount"] == 4,
    )
    .await;
}

#[tokio::test]
async fn paths_match_exactly_and_unknown_ones_share_one_series() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.address();
    for path in ["/", "/ingestfoo", "/ingest/", "/enqueue/x", "/api/v2/ingest", "/random-1", "/random-2"] {
        http.post(to, path, BODY).await.assert_plain(404, "404 page not found");
    }
    let unmatched = r#"gateway_requests_total{method="POST",endpoint="unmatched",status="404"}"#;
    assert_eq!(http.metric(to, unmatched).await, Some(7.0));
    assert!(!http.get(to, "/metrics").await.body.contains("random-1"));
}

#[tokio::test]
async fn status_asks_both_backends_and_names_them() {
    let (pipeline, http) = (pipeline().await, Http::new());
    assert_eq!(http.post(pipeline.address(), "/ingest", BODY).await.status, 200);
    for path in ["/status", "/api/v1/status"] {
        let status = http.json(pipeline.address(), path).await;
        assert_eq!(status["services"], serde_json::json!(["ingest", "processor"]));
        assert_eq!(status["ingest"]["healthy"], true);
        assert_eq!(status["ingest"]["stats"]["TotalReceived"], 1);
        assert!(status["ingest"].get("error").is_none());
        assert_eq!(status["processor"]["healthy"], true);
        assert_eq!(status["processor"]["stats"]["pool"]["workers"], 4);
    }
    let nowhere = format!("http://{}", free_port().await);
    let alone = gateway::start(config(&nowhere, &nowhere)).await.unwrap();
    let status = http.json(alone.address(), "/status").await;
    for backend in ["ingest", "processor"] {
        assert_eq!(status[backend]["healthy"], false);
        assert!(status[backend]["stats"].is_null());
        assert!(!status[backend]["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(http.get(alone.address(), "/health").await.body, r#"{"healthy":true}"#);
    assert_eq!(http.get(alone.address(), "/ready").await.status, 503);
    assert_eq!(http.get(pipeline.address(), "/ready").await.status, 200);
}

#[tokio::test]
async fn upstream_failures_are_what_the_error_table_says() {
    let http = Http::new();
    let nowhere = format!("http://{}", free_port().await);
    let down = gateway::start(config(&nowhere, &nowhere)).await.unwrap();
    for _ in 0..10 {
        let answer = http.post(down.address(), "/ingest", BODY).await;
        answer.assert_plain(503, "Service unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let open = format!(r#"upstream_breaker_open{{service="ingest",target="{nowhere}"}}"#);
    assert_eq!(http.metric(down.address(), &open).await, Some(1.0));
    let errors = r#"gateway_upstream_requests_total{service="ingest",status="error"}"#;
    assert_eq!(http.metric(down.address(), errors).await, Some(10.0));

    let unresolved = gateway::start(config("http://no-such-host.invalid", &nowhere)).await.unwrap();
    http.post(unresolved.address(), "/ingest", BODY).await.assert_plain(503, "Service unavailable");
    let invalid = gateway::start(config("http://[::1", &nowhere)).await.unwrap();
    http.post(invalid.address(), "/ingest", BODY).await.assert_plain(500, "Invalid target URL");
    let hostless = gateway::start(config("/just/a/path", &nowhere)).await.unwrap();
    http.post(hostless.address(), "/ingest", BODY).await.assert_plain(500, "Failed to create proxy request");
}

#[tokio::test]
async fn a_service_of_another_make_is_proxied_whole() {
    const ANSWER: &str = "HTTP/1.1 418 I'm a teapot\r\nx-theirs: yes\r\nconnection: keep-alive, x-hop\r\n\
        x-hop: 1\r\ncontent-length: 3\r\n\r\ntea";
    let (url, seen) = stranger(ANSWER).await;
    let gateway = gateway::start(config(&url, &url)).await.unwrap();
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("http://{}/api/v1/ingest?a=1&b=%20", gateway.address()))
        .header("x-test-run", "7")
        .header("connection", "x-mine")
        .header("x-mine", "gone")
        .header("te", "trailers")
        .header("x-request-id", "mine-1")
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let http = Http::new();
    let answer = http.send(request).await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-theirs"), "yes");
    assert!(!answer.headers.contains_key("x-hop"));
    assert_eq!(answer.body, "tea");
    let sent = seen.lock().iter().find(|request| request.starts_with("PUT")).unwrap().clone();
    assert!(sent.starts_with("PUT /ingest?a=1&b=%20 HTTP/1.1\r\n"), "{sent}");
    for kept in [
        "x-test-run: 7\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-request-id: mine-1\r\n",
    ] {
        assert!(sent.contains(kept), "{kept} in {sent}");
    }
    for gone in ["x-mine", "te: ", "connection:"] {
        assert!(!sent.contains(gone), "{gone} in {sent}");
    }
    // A posted body takes the same way, since this service knows no stream.
    assert_eq!(http.post(gateway.address(), "/ingest", BODY).await.status, 418);
    assert!(
        seen.lock()
            .iter()
            .any(|request| request.starts_with("POST /ingest HTTP/1.1") && request.ends_with(BODY))
    );
    let success = r#"gateway_upstream_requests_total{service="ingest",status="success"}"#;
    assert_eq!(http.metric(gateway.address(), success).await, Some(2.0));
}

#[tokio::test]
async fn an_upstream_5xx_is_passed_on_and_counted_as_an_error() {
    let (url, _) = stranger("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno").await;
    let (gateway, http) = (gateway::start(config(&url, &url)).await.unwrap(), Http::new());
    assert_eq!(http.post(gateway.address(), "/ingest", BODY).await.status, 500);
    let errors = r#"gateway_upstream_requests_total{service="ingest",status="error"}"#;
    assert_eq!(http.metric(gateway.address(), errors).await, Some(1.0));
}

#[tokio::test]
async fn a_silent_upstream_costs_three_seconds_at_most() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (gateway, http) = (gateway::start(config(&url, &url)).await.unwrap(), Http::new());
    let begun = Instant::now();
    http.post(gateway.address(), "/ingest", BODY).await.assert_plain(503, "Service unavailable");
    let took = begun.elapsed();
    assert!((2_800..4_500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn request_ids_and_traces_go_through_and_ids_come_back() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let request = |id: &'static str| {
        Request::post(format!("http://{}/ingest", pipeline.address()))
            .header("x-request-id", id)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap()
    };
    assert_eq!(http.send(request("abc-1")).await.header("x-request-id"), "abc-1");
    assert_eq!(http.send(request("two words")).await.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn traces_reach_the_queue() {
    use queuebench_system::pipeline::processor::{Parts, Processing, ProcessingError};
    use queuebench_system::pipeline::wire::DataMessage;
    struct Refuse;
    impl Processing for Refuse {
        async fn process(&self, _: &DataMessage) -> Result<Vec<u8>, ProcessingError> {
            Err(ProcessingError::Fatal("shown to the test as a dead letter".into()))
        }
    }
    let queue =
        queuebench_system::queue::Memory::open(queuebench_system::queue::MemoryConfig::default()).unwrap();
    let parts = Parts { queue, processing: Refuse, dead_letters: None, results: None };
    let pipeline = embedded::start_with(settings(), parts).await.unwrap();
    let http = Http::new();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::post(format!("http://{}/ingest", pipeline.address()))
        .header("x-request-id", "abc-1")
        .header("traceparent", trace)
        .body(Full::new(Bytes::from_static(BODY.as_bytes())))
        .unwrap();
    let id = http.send(request).await.json()["messageId"].as_str().unwrap().to_owned();
    let letters =
        eventually("a dead letter", async || pipeline.processor.dead_letters(), |l| !l.is_empty()).await;
    let message = &letters[0].message;
    assert_eq!(message.id.as_str(), id);
    let header = |name: &str| message.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(header("traceparent").unwrap(), trace);
    assert_eq!(header("x-request-id").unwrap(), "abc-1");
    assert_eq!(header("source").unwrap(), "meter-7");
    let wire = DataMessage::parse(&message.payload).unwrap();
    assert_eq!(wire.payload, b"kwh=12.4");
    assert_eq!(wire.metadata["vu"], "1");
    assert_eq!(wire.metadata["spike"], "true");
}

#[tokio::test]
async fn rates_are_limited_per_client_and_in_total() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let ingest = format!("http://{}", pipeline.ingest.address());
    for (total, client) in [(5.0, 0.0), (0.0, 5.0)] {
        let limited = GatewayConfig {
            rate_limit_total_per_s: total,
            rate_limit_client_per_s: client,
            ..config(&ingest, &ingest)
        };
        let limited = gateway::start(limited).await.unwrap();
        let mut refused = 0;
        for _ in 0..30 {
            let answer = http.post(limited.address(), "/ingest", BODY).await;
            if answer.status == 429 {
                answer.assert_plain(429, "Too many requests");
                assert_eq!(answer.header("retry-after"), "1");
                refused += 1;
            }
        }
        assert!((15..=25).contains(&refused), "{refused}");
        let counted = http.metric(limited.address(), r#"gateway_refused_total{reason="rate_limited"}"#).await;
        assert_eq!(counted, Some(f64::from(refused)));
        assert_eq!(http.get(limited.address(), "/health").await.status, 200, "probes are never limited");
    }
}

#[tokio::test]
async fn a_bearer_token_is_asked_for_everywhere_but_at_probes() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let ingest = format!("http://{}", pipeline.ingest.address());
    let guarded = GatewayConfig { bearer_token: Some("secret".into()), ..config(&ingest, &ingest) };
    let guarded = gateway::start(guarded).await.unwrap();
    for path in ["/ingest", "/status", "/metrics", "/nothing"] {
        let answer = http.post(guarded.address(), path, BODY).await;
        answer.assert_plain(401, "Unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(http.get(guarded.address(), "/health").await.status, 200);
    for (token, status) in
        [("Bearer secret", 200), ("bearer secret", 200), ("Bearer wrong", 401), ("secret", 401)]
    {
        let request = Request::post(format!("http://{}/ingest", guarded.address()))
            .header("authorization", token)
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        assert_eq!(http.send(request).await.status, status, "{token}");
    }
}

#[tokio::test]
async fn answers_find_their_requests_whatever_travels_together() {
    let (pipeline, http) = (pipeline().await, Http::new());
    let to = pipeline.address();
    // Good and bad requests at once share writes between the services; each must get its own answer.
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..400 {
        let http = http.clone();
        tasks.spawn(async move {
            let id = format!("r-{index}");
            let body = if index % 3 == 0 { "[broken".to_owned() } else { BODY.to_owned() };
            let request = Request::post(format!("http://{to}/ingest"))
                .header("x-request-id", &id)
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let answer = http.send(request).await;
            assert_eq!(answer.header("x-request-id"), id);
            assert_eq!(answer.status.as_u16(), if index % 3 == 0 { 400 } else { 200 }, "{index}");
            answer.json_id()
        });
    }
    let ids: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (266, 266));
    pipeline.shutdown(Duration::from_secs(5)).await.unwrap();
}

impl crate::client::Answer {
    fn json_id(&self) -> Option<String> {
        (self.status == 200).then(|| self.json()["messageId"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn tls_speaks_both_versions_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let edge = TlsEdge::start(folder.path()).await;
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let stream = edge.connect(alpn).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        let io = hyper_util::rt::TokioIo::new(stream);
        let request = Request::post("https://localhost/ingest").header("host", "localhost");
        let request = request.body(Full::new(Bytes::from_static(BODY.as_bytes()))).unwrap();
        let status = if alpn == b"h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().status()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().status()
        };
        assert_eq!(status, 200);
    }
}
