//! The API gateway: the one address that clients know.
//!
//! Passes `/ingest` (under three names) to the ingest service and `/enqueue` to the processor, and answers the
//! rest itself. Keeps no state but counters and rate limits. Its deadline for a call (3 s) is longer than the
//! ingest service's (2.5 s) and that longer than the processor's (2 s), so a client is told what really
//! happened inside. What is over a bound is refused at once: 401, 413, 429 or 503, the last two with
//! `Retry-After`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::admission::Admission;
use super::config::GatewayConfig;
use super::http::listener::{self, Lifecycle, Service};
use super::http::metrics::RequestMetrics;
use super::http::respond::{self, Answer};
use super::http::tls;
use super::rate_limit::RateLimiter;
use super::upstream::Upstream;
use crate::telemetry::metrics::Registry;

mod counters;
mod guard;
mod headers;
mod relay;
mod route;
mod status;

use counters::Counters;
use route::Route;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: GatewayConfig,
    ingest: Arc<Upstream>,
    processor: Arc<Upstream>,
    admission: Arc<Admission>,
    limiter: Option<Mutex<RateLimiter>>,
    registry: Arc<Registry>,
    http: RequestMetrics,
    gateway: RequestMetrics,
    counters: Counters,
    lifecycle: Lifecycle,
}

/// Starts the gateway; it is ready for clients when this returns.
///
/// # Errors
/// When an address cannot be bound or the certificate cannot be used.
pub async fn start(config: GatewayConfig) -> io::Result<Gateway> {
    let registry = Arc::new(Registry::default());
    crate::telemetry::process::register(&registry);
    registry.gauge_fn("system_health_status", "1 while the service answers.", &[], || Some(1.0));
    let limiter = RateLimiter::new(config.rate_limit(), std::time::Instant::now());
    let metrics = |total, duration| RequestMetrics::new(Arc::clone(&registry), total, duration);
    let inner = Arc::new(Inner {
        ingest: Upstream::new("ingest", &config.ingest, &registry),
        processor: Upstream::new("processor", &config.processor, &registry),
        admission: Admission::new(config.server.max_in_flight, config.server.max_in_flight_bytes),
        limiter: limiter.is_limiting().then(|| Mutex::new(limiter)),
        http: metrics("http_requests_total", "http_request_duration_seconds"),
        gateway: metrics("gateway_requests_total", "gateway_request_duration_seconds"),
        counters: Counters::new(&registry),
        lifecycle: Lifecycle::default(),
        registry,
        config,
    });
    let tls = match &inner.config.tls {
        Some(config) => Some((config.port, tls::server_config(config)?)),
        None => None,
    };
    let listen = |server, tls| {
        let (service, lifecycle) = (Arc::clone(&inner), inner.lifecycle.clone());
        let registry = Arc::clone(&inner.registry);
        async move { listener::listen(&server, tls, service, &registry, lifecycle).await }
    };
    let address = listen(inner.config.server.clone(), None).await?;
    let tls_address = match tls {
        Some((port, tls)) => {
            let server = super::config::ServerConfig { port, ..inner.config.server.clone() };
            Some(listen(server, Some(tls)).await?)
        }
        None => None,
    };
    Ok(Gateway { address, tls_address, inner })
}

impl Gateway {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TLS, if it does.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Takes no new requests, answers those in work, and ends; at most `deadline` long. Says whether all were
    /// answered.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let drained = self.inner.lifecycle.finish(until).await;
        self.inner.ingest.close(until).await;
        self.inner.processor.close(until).await;
        drained
    }
}

impl Service for Inner {
    async fn respond(self: Arc<Self>, request: Request<Incoming>, client: SocketAddr) -> Answer {
        let started = Instant::now();
        let route = Route::of(request.uri().path());
        let method = request.method().clone();
        let answer = self.answer(route, request, client).await;
        let took = started.elapsed();
        self.http.record(&method, route.pattern(), answer.status(), took);
        if route.is_passed_on() || route == Route::Unmatched {
            self.gateway.record(&method, route.pattern(), answer.status(), took);
        }
        answer
    }
}

impl Inner {
    async fn answer(&self, route: Route, request: Request<Incoming>, client: SocketAddr) -> Answer {
        match route {
            Route::Health => return respond::healthy(),
            Route::Ready => return respond::readiness(self.ready().await),
            _ => {}
        }
        if let Some(refusal) = self.unauthorized(request.headers()) {
            return refusal;
        }
        match route {
            Route::Status { .. } => self.status().await,
            Route::Metrics => respond::metrics(self.registry.render()),
            Route::Ingest { .. } | Route::Enqueue => match self.over_rate(client.ip()) {
                None => self.relay(route, request, client).await,
                Some(refusal) => refusal,
            },
            Route::Unmatched | Route::Health | Route::Ready => respond::not_found(),
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if self.lifecycle.drain.is_cancelled() {
            return Err("draining".into());
        }
        // Longer than the ingest service's own probe of the processor, so that its reason comes through.
        match self.ingest.get("/ready", Duration::from_millis(1_500)).await {
            Ok((http::StatusCode::OK, _)) => Ok(()),
            Ok((status, _)) => Err(format!("ingest answered {status}")),
            Err(error) => Err(format!("ingest: {error}")),
        }
    }
}

/// A posted body without a query can go over a stream; everything else is passed on as it came.
fn fits_a_stream(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST && request.uri().query().is_none()
}
