//! A small client, and services to drive with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use queuebench_system::pipeline::config::{
    IngestConfig, ProcessorConfig, ServerConfig, Settings, UpstreamConfig,
};
use queuebench_system::pipeline::embedded::{self, Embedded};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// An error in the form that clients know: text, a line end, no sniffing.
    pub(crate) fn assert_plain(&self, status: u16, message: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.body, format!("{message}\n"));
        assert_eq!(self.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
    }
}

/// A pooled HTTP client.
#[derive(Clone)]
pub(crate) struct Http(Pool<HttpConnector, Full<Bytes>>);

impl Http {
    pub(crate) fn new() -> Self {
        Self(Pool::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let answer = self.0.request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.into()).expect("UTF-8"),
        }
    }

    pub(crate) async fn request(&self, method: Method, to: SocketAddr, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("http://{to}{path}"));
        self.send(request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()).await
    }

    pub(crate) async fn get(&self, to: SocketAddr, path: &str) -> Answer {
        self.request(Method::GET, to, path, "").await
    }

    pub(crate) async fn post(&self, to: SocketAddr, path: &str, body: &str) -> Answer {
        self.request(Method::POST, to, path, body).await
    }

    pub(crate) async fn json(&self, to: SocketAddr, path: &str) -> serde_json::Value {
        let answer = self.get(to, path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        answer.json()
    }

    /// One series of `/metrics`, if it is exposed.
    pub(crate) async fn metric(&self, of: SocketAddr, series: &str) -> Option<f64> {
        let text = self.get(of, "/metrics").await.body;
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// Asks again until `check` holds or half a minute has passed, with a pause that leaves a busy machine to those
/// who are asked.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
    what: &str,
    ask: impl Fn() -> F,
    check: impl Fn(&T) -> bool,
) -> T
where
    T: std::fmt::Debug,
{
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let seen = ask().await;
        if check(&seen) {
            return seen;
        }
        assert!(Instant::now() < until, "{what} did not come about: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The defaults with deadlines that a busy test machine keeps; tests of deadlines set their own.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.gateway.ingest.timeout_ms = 30_000;
    settings.gateway.processor.timeout_ms = 30_000;
    settings.ingest.processor.timeout_ms = 25_000;
    settings.processor.publish_timeout_ms = 20_000;
    settings
}

pub(crate) async fn pipeline() -> Embedded {
    embedded::start(settings()).await.expect("a pipeline")
}

pub(crate) fn processor_config() -> ProcessorConfig {
    ProcessorConfig { server: ServerConfig::loopback(), ..ProcessorConfig::default() }
}

pub(crate) fn ingest_config(processor: &str) -> IngestConfig {
    IngestConfig {
        server: ServerConfig::loopback(),
        processor: UpstreamConfig { timeout_ms: 2_500, ..UpstreamConfig::to(processor) },
        ..IngestConfig::default()
    }
}

/// A port on which nothing listens.
pub(crate) async fn free_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Sends bytes as they are and reads until the server ends the connection or `limit` has passed.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8], limit: Duration) -> (String, bool) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream, limit).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream, limit: Duration) -> (String, bool) {
    let mut seen = Vec::new();
    let reading = async {
        let mut chunk = [0; 4096];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => seen.extend_from_slice(&chunk[..count]),
            }
        }
    };
    let ended = tokio::time::timeout(limit, reading).await.is_ok();
    (String::from_utf8_lossy(&seen).into_owned(), ended)
}

/// One connection that is used until it ends.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// `None` once the server has ended the connection.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Option<(u16, String)> {
        let request = Request::post(path).header("host", "test");
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        self.sender.ready().await.ok()?;
        let answer = self.sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8(body.into()).unwrap()))
    }
}
