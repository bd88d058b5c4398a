//! Floods: streams that are reset without pause, and hostile requests by the thousand. The peer is cut off, and
//! memory stays where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use queuebench_system::pipeline::config::{GrpcConfig, ServerConfig, UpstreamConfig};
use queuebench_system::pipeline::grpc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Http, eventually, raw};
use crate::programs::{Running, command};
use crate::tls::TlsEdge;

const LIMIT: Duration = Duration::from_secs(20);
/// Far more than any server has reason to bear.
const RESETS: u32 = 50_000;

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Opens streams and resets each at once, until the server has had enough. Returns how many it took.
async fn flood(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> u32 {
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    stream.write_all(&preface).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        // Reads until the server ends the connection: an attacker who does not read is a different test.
        let mut chunk = vec![0; 16 << 10];
        while reader.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
    };
    let mut sent = 0;
    let writing = async {
        for number in 0..RESETS {
            let id = 2 * number + 1;
            // From the static table: POST, https, `/`.
            let pair = [frame(1, 4, id, &[0x83, 0x87, 0x84]), frame(3, 0, id, &8_u32.to_be_bytes())].concat();
            if writer.write_all(&pair).await.is_err() {
                return;
            }
            sent = number;
            if number.is_multiple_of(64) {
                // The frames go out even if nobody waits for an answer.
                let _ = writer.flush().await;
                tokio::task::yield_now().await;
            }
        }
        std::future::pending().await
    };
    let ended = async {
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("the server ends the connection");
    sent
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_without_pause_end_the_connection_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let edge = TlsEdge::start(folder.path()).await;
    let taken = flood(edge.connect(b"h2").await).await;
    assert!(taken < RESETS - 1, "{taken} resets were borne");

    let config = GrpcConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        http: ServerConfig::loopback(),
        processor: UpstreamConfig::to(&format!("http://{}", edge.pipeline.processor.address())),
        ..GrpcConfig::default()
    };
    let server = grpc::start(config).await.unwrap();
    let taken = flood(TcpStream::connect(server.address()).await.unwrap()).await;
    assert!(taken < RESETS - 1, "{taken} resets were borne");

    let http = Http::new();
    assert_eq!(http.post(edge.pipeline.address(), "/ingest", "{}").await.status, 200);
    assert_eq!(http.get(server.http_address(), "/ready").await.status, 200);
}

/// Every kind of request that is refused, some dozens of each.
async fn hostile_round(to: SocketAddr) {
    let declared = format!("POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", u32::MAX);
    let mut endless = b"POST /ingest HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        endless.extend_from_slice(b"8000\r\n");
        endless.extend(std::iter::repeat_n(b'x', 0x8000));
        endless.extend_from_slice(b"\r\n");
    }
    let head = format!("GET /health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(200_000));
    let many: String = (0..1_000).map(|index| format!("x-{index}: 1\r\n")).collect();
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let nested = format!("{{\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!(
        "POST /ingest HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{nested}",
        nested.len()
    );
    let unknown = "GET /no/such/path HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut tasks = tokio::task::JoinSet::new();
    for bytes in [
        declared.into_bytes(),
        endless,
        head.into_bytes(),
        many.into_bytes(),
        nested.into_bytes(),
        unknown.as_bytes().to_vec(),
        b"\x16\x03\x01 no tls here".to_vec(),
    ] {
        let bytes = Arc::new(bytes);
        for _ in 0..12 {
            let bytes = Arc::clone(&bytes);
            tasks.spawn(async move { raw(to, &bytes, Duration::from_millis(700)).await });
        }
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_under_hostile_requests() {
    let start = |name: &str, environment: &[(&str, &str)]| {
        let mut command = command(name);
        command.envs(environment.iter().copied());
        tokio::task::block_in_place(|| Running::start(command))
    };
    let processor = start("processor", &[("PROCESSOR_PORT", "0")]);
    let ingest = start("ingest", &[("INGEST_PORT", "0"), ("PROCESSOR_URL", &processor.url())]);
    let gateway = start(
        "api-gateway",
        &[("API_PORT", "0"), ("INGEST_URL", &ingest.url()), ("PROCESSOR_URL", &processor.url())],
    );
    let resident =
        || -> u64 { [&gateway, &ingest, &processor].iter().map(|service| service.resident_bytes()).sum() };
    // What the allocators keep is there after the first rounds.
    for _ in 0..3 {
        hostile_round(gateway.address()).await;
    }
    let before = resident();
    for _ in 0..5 {
        hostile_round(gateway.address()).await;
    }
    // Five rounds bring some 100 MB of bodies and heads. What a slow machine still has in work is let go of.
    let flat = before + (32 << 20);
    eventually("memory is where it was", || async { resident() }, |after: &u64| *after < flat.min(160 << 20))
        .await;
    let http = Http::new();
    assert_eq!(http.post(gateway.address(), "/ingest", "{}").await.status, 200);
    let unmatched = r#"gateway_requests_total{method="GET",endpoint="unmatched",status="404"}"#;
    // One series for all paths, however many of the requests were still answered.
    assert_eq!(http.get(gateway.address(), "/no/such/path").await.status, 404);
    let seen = || http.metric(gateway.address(), unmatched);
    eventually("unknown paths are counted", seen, Option::is_some).await;
    let series = http.get(gateway.address(), "/metrics").await.body;
    assert!(!series.contains("/no/such/path"), "{series}");
}
