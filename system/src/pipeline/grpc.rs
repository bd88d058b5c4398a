//! The gRPC way in: `diplom.v1.IngestService`, with reflection and the standard health service.
//!
//! Does what the ingest service does and hands messages to the processor itself. Bounds: 4 MiB per message,
//! concurrent streams per connection, each call's deadline, and resets that a client may send ahead. Metrics,
//! health and readiness are served over HTTP on a port of their own. On shutdown the health service says
//! `NOT_SERVING`, calls in work are answered, and connections end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::config::GrpcConfig;
use super::http::listener::{self, Lifecycle, Service};
use super::http::metrics::{RequestMetrics, UNMATCHED};
use super::http::respond::{self, Answer};
use super::upstream::Upstream;
use crate::telemetry::metrics::Registry;

mod metrics;
mod service;

/// The generated messages, client and server of `diplom.v1`.
pub mod proto {
    #![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated")]
    #![allow(
        unused_qualifications,
        clippy::unwrap_used,
        clippy::needless_pass_by_value,
        reason = "generated"
    )]
    tonic::include_proto!("diplom.v1");

    /// What the reflection service tells.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pipeline.bin"));
}

use metrics::CallMetrics;
use proto::ingest_service_server::IngestServiceServer;
use service::Calls;

/// The largest message that is read.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// A running gRPC server.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    http_address: SocketAddr,
    inner: Arc<Inner>,
    health: tonic_health::server::HealthReporter,
}

#[derive(Debug)]
struct Inner {
    processor: Arc<Upstream>,
    registry: Arc<Registry>,
    http: RequestMetrics,
    lifecycle: Lifecycle,
}

/// The gRPC server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The descriptors of the reflection service do not fit the program.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Starts the server; it is ready for clients when this returns.
///
/// # Errors
/// When an address cannot be bound.
pub async fn start(config: GrpcConfig) -> Result<GrpcServer, StartError> {
    let registry = Arc::new(Registry::default());
    crate::telemetry::process::register(&registry);
    let inner = Arc::new(Inner {
        processor: Upstream::new("processor", &config.processor, &registry),
        http: RequestMetrics::new(
            Arc::clone(&registry),
            "http_requests_total",
            "http_request_duration_seconds",
        ),
        lifecycle: Lifecycle::default(),
        registry,
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients know only v1alpha.
    let (reflection_v1, reflection_v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let (health, health_service) = tonic_health::server::health_reporter();
    let calls = Calls {
        processor: Arc::clone(&inner.processor),
        metrics: CallMetrics::new(Arc::clone(&inner.registry)),
        validate: config.validate,
    };
    health.set_serving::<IngestServiceServer<Calls>>().await;

    let failed = |address| move |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(config.address).await.map_err(failed(config.address))?;
    let address = listener.local_addr().map_err(failed(config.address))?;
    let http_address =
        listener::listen(&config.http, None, Arc::clone(&inner), &inner.registry, inner.lifecycle.clone())
            .await
            .map_err(failed(config.http.address()))?;

    let server = Server::builder()
        .max_concurrent_streams(config.max_concurrent_streams)
        .concurrency_limit_per_connection(
            usize::try_from(config.max_concurrent_streams).unwrap_or(usize::MAX),
        )
        .http2_max_pending_accept_reset_streams(Some(32))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(health_service)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha)
        .add_service(IngestServiceServer::new(calls).max_decoding_message_size(MAX_MESSAGE_BYTES));
    let lifecycle = inner.lifecycle.clone();
    inner.lifecycle.tasks.spawn(async move {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = server.serve_with_incoming_shutdown(incoming, lifecycle.drain.cancelled());
        tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::error!(%error, "gRPC server ended");
                }
            }
            () = lifecycle.abort.cancelled() => {}
        }
    });
    Ok(GrpcServer { address, http_address, inner, health })
}

impl GrpcServer {
    /// Where it listens for gRPC.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics, health and readiness are served.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Takes no new calls, answers those in work, and ends; at most `deadline` long. Says whether all were
    /// answered.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        self.health.set_not_serving::<IngestServiceServer<Calls>>().await;
        let drained = self.inner.lifecycle.finish(until).await;
        self.inner.processor.close(until).await;
        drained
    }
}

impl Service for Inner {
    async fn respond(self: Arc<Self>, request: Request<Incoming>, _client: SocketAddr) -> Answer {
        let started = Instant::now();
        let (route, answer) = match request.uri().path() {
            "/health" => ("/health", respond::healthy()),
            "/ready" => {
                let ready = match self.processor.get("/ready", Duration::from_secs(1)).await {
                    Ok((StatusCode::OK, _)) => Ok(()),
                    Ok((status, _)) => Err(format!("processor answered {status}")),
                    Err(error) => Err(format!("processor: {error}")),
                };
                ("/ready", respond::readiness(ready))
            }
            "/metrics" => ("/metrics", respond::metrics(self.registry.render())),
            _ => (UNMATCHED, respond::not_found()),
        };
        self.http.record(request.method(), route, answer.status(), started.elapsed());
        answer
    }
}

/// A body for the processor.
fn wire(message: &crate::pipeline::wire::DataMessage) -> Bytes {
    let mut body = Vec::with_capacity(message.payload.len() * 2 + 256);
    message.write(&mut body);
    body.into()
}
