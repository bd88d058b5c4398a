//! The ingest service: reads what clients send, gives each record an id and a time, and hands it to the
//! processor. Stateless apart from counters.
//!
//! A request counts as received once its JSON is read, and then exactly once as sent or failed. Sent means the
//! processor's queue acknowledged it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use uuid::Uuid;

use super::admission::Admission;
use super::config::IngestConfig;
use super::context::RequestContext;
use super::http::body::{self, BodyError};
use super::http::listener::{self, Lifecycle, Service};
use super::http::metrics::{RequestMetrics, UNMATCHED};
use super::http::respond::{self, Answer, X_REQUEST_ID};
use super::stream;
use super::stream::frame::RequestFrame;
use super::stream::lane::LaneError;
use super::stream::server::{Answers, StreamLimits, StreamService};
use super::upstream::Upstream;
use super::validation;
use super::wire::{IngestRequest, write_message};
use crate::telemetry::metrics::Registry;

mod counters;

use counters::{Counters, Outcome};

const ROUTE: &str = "/ingest";

/// A running ingest service.
#[derive(Debug)]
pub struct Ingest {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: IngestConfig,
    processor: Arc<Upstream>,
    admission: Arc<Admission>,
    registry: Arc<Registry>,
    http: RequestMetrics,
    counters: Counters,
    lifecycle: Lifecycle,
}

/// Starts the service; it is ready for clients when this returns.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(config: IngestConfig) -> io::Result<Ingest> {
    let registry = Arc::new(Registry::default());
    crate::telemetry::process::register(&registry);
    registry.gauge_fn("system_health_status", "1 while the service answers.", &[], || Some(1.0));
    let inner = Arc::new(Inner {
        processor: Upstream::new("processor", &config.processor, &registry),
        admission: Admission::new(config.server.max_in_flight, config.server.max_in_flight_bytes),
        http: RequestMetrics::new(
            Arc::clone(&registry),
            "http_requests_total",
            "http_request_duration_seconds",
        ),
        counters: Counters::new(&registry),
        lifecycle: Lifecycle::default(),
        registry,
        config,
    });
    let address = listener::listen(
        &inner.config.server,
        None,
        Arc::clone(&inner),
        &inner.registry,
        inner.lifecycle.clone(),
    )
    .await?;
    Ok(Ingest { address, inner })
}

impl Ingest {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, answers those in work, and ends; at most `deadline` long. Says whether all were
    /// answered.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let drained = self.inner.lifecycle.finish(until).await;
        self.inner.processor.close(until).await;
        drained
    }
}

/// What a client is told about its request.
struct Told {
    status: StatusCode,
    retry_after_s: u16,
    body: Bytes,
    outcome: Outcome,
}

impl Told {
    fn accepted(id: &[u8]) -> Self {
        let mut body = Vec::with_capacity(75);
        body.extend_from_slice(b"{\"messageId\":\"");
        body.extend_from_slice(id);
        body.extend_from_slice(b"\",\"status\":\"accepted\"}");
        Self { status: StatusCode::OK, retry_after_s: 0, body: body.into(), outcome: Outcome::Success }
    }

    /// `retry_after_s` is 0 unless the message is certainly not in the queue.
    fn failed(retry_after_s: u16) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after_s,
            body: Bytes::from_static(b"Failed to process message\n"),
            outcome: Outcome::ServiceUnavailable,
        }
    }

    fn invalid() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            retry_after_s: 0,
            body: Bytes::from_static(b"Invalid request body\n"),
            outcome: Outcome::BadRequest,
        }
    }

    fn of_processor(status: u16, retry_after_s: u16, id: &[u8]) -> Self {
        if status == StatusCode::ACCEPTED.as_u16() { Self::accepted(id) } else { Self::failed(retry_after_s) }
    }
}

/// A message's id as text.
type Id = [u8; uuid::fmt::Hyphenated::LENGTH];

fn new_id() -> Id {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Uuid::new_v4().hyphenated().encode_lower(&mut text);
    text
}

fn write(into: &mut Vec<u8>, id: &Id, request: &IngestRequest<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let metadata = request.metadata.iter().map(|(name, value)| (&**name, &**value));
    write_message(
        into,
        // Hexadecimal digits and hyphens.
        std::str::from_utf8(id).unwrap_or_default(),
        i64::try_from(now).unwrap_or(i64::MAX),
        &request.source,
        request.data.as_bytes(),
        metadata,
    );
}

impl Inner {
    fn parse<'b>(&self, body: &'b [u8]) -> Option<IngestRequest<'b>> {
        let request =
            IngestRequest::parse(body).inspect_err(|error| tracing::debug!(%error, "refused")).ok()?;
        let valid =
            !self.config.validate || validation::check(&request.source, request.data.as_bytes()).is_ok();
        valid.then_some(request)
    }

    /// One request that came on its own.
    async fn ingest(&self, body: &[u8], context: &RequestContext) -> Told {
        let Some(request) = self.parse(body) else { return Told::invalid() };
        self.counters.received.increment();
        let id = new_id();
        let mut message = Vec::with_capacity(body.len() * 2 + 128);
        write(&mut message, &id, &request);
        let told = match self.processor.post("/enqueue", context, message.into()).await {
            Ok(answer) => {
                if answer.status != StatusCode::ACCEPTED.as_u16() {
                    tracing::debug!(status = answer.status, "message not taken by the processor");
                }
                Told::of_processor(answer.status, answer.retry_after_s, &id)
            }
            Err(error) => {
                tracing::debug!(%error, "message not handed to the processor");
                Told::failed(u16::from(error.is_unsent()))
            }
        };
        self.counters.fate(told.outcome == Outcome::Success);
        told
    }

    fn count(&self, method: &Method, told: &Told, took: Duration) {
        self.counters.record(told.outcome, took);
        self.http.record(method, ROUTE, told.status, took);
    }

    async fn post(self: &Arc<Self>, request: Request<Incoming>, started: Instant) -> Answer {
        let mut context = RequestContext::of_headers(request.headers());
        let span = context.begin("ingest", "POST /ingest");
        let told = self.told(request, &context).await;
        drop(span);
        let took = started.elapsed();
        let mut answer = match told {
            Ok(told) => {
                self.counters.record(told.outcome, took);
                let answer = match told.status {
                    StatusCode::OK => respond::json(StatusCode::OK, told.body),
                    status => respond::plain_bytes(status, told.body),
                };
                match told.retry_after_s {
                    0 => answer,
                    seconds => respond::retry_after(answer, Duration::from_secs(seconds.into())),
                }
            }
            Err(error) => {
                let busy = error == BodyError::Busy;
                let outcome = if busy { Outcome::ServiceUnavailable } else { Outcome::BadRequest };
                self.counters.record(outcome, took);
                error.answer()
            }
        };
        answer.headers_mut().insert(X_REQUEST_ID, context.request_id_header());
        answer
    }

    async fn told(&self, request: Request<Incoming>, context: &RequestContext) -> Result<Told, BodyError> {
        let Some(mut permit) = self.admission.admit(0) else {
            self.counters.overloaded.increment();
            return Err(BodyError::Busy);
        };
        let server = &self.config.server;
        let body = body::read(request.into_body(), server.max_body_bytes, server.body_timeout(), &mut permit)
            .await?;
        Ok(self.ingest(&body, context).await)
    }

    async fn ready(&self) -> Result<(), String> {
        if self.lifecycle.drain.is_cancelled() {
            return Err("draining".into());
        }
        match self.processor.get("/ready", Duration::from_secs(1)).await {
            Ok((StatusCode::OK, _)) => Ok(()),
            Ok((status, _)) => Err(format!("processor answered {status}")),
            Err(error) => Err(format!("processor: {error}")),
        }
    }
}

impl Service for Inner {
    async fn respond(self: Arc<Self>, request: Request<Incoming>, _client: SocketAddr) -> Answer {
        let started = Instant::now();
        let method = request.method().clone();
        let (route, answer) = match request.uri().path() {
            ROUTE if method == Method::POST => (ROUTE, self.post(request, started).await),
            ROUTE => {
                self.counters.record(Outcome::MethodNotAllowed, started.elapsed());
                (ROUTE, respond::method_not_allowed())
            }
            "/health" => ("/health", respond::healthy()),
            "/ready" => ("/ready", respond::readiness(self.ready().await)),
            "/stats" => ("/stats", respond::json(StatusCode::OK, self.counters.stats())),
            "/metrics" => ("/metrics", respond::metrics(self.registry.render())),
            stream::PATH => {
                let limits = StreamLimits {
                    max_body_bytes: self.config.server.max_body_bytes,
                    write_timeout: self.config.server.write_timeout(),
                };
                (stream::PATH, stream::server::upgrade(request, Arc::clone(&self), limits, &self.lifecycle))
            }
            _ => (UNMATCHED, respond::not_found()),
        };
        self.http.record(&method, route, answer.status(), started.elapsed());
        answer
    }
}

impl StreamService for Inner {
    async fn take(self: &Arc<Self>, requests: &mut Vec<RequestFrame>, answers: &Answers) {
        for mut request in requests.drain(..) {
            let started = Instant::now();
            let id_on_stream = request.id;
            let finish = |inner: &Self, told: &Told| {
                inner.count(&Method::POST, told, started.elapsed());
                answers.send(id_on_stream, told.status, told.retry_after_s, &told.body);
            };
            let Some(permit) = self.admission.admit(request.body.len()) else {
                self.counters.overloaded.increment();
                finish(self, &Told::failed(1));
                continue;
            };
            let Some(parsed) = self.parse(&request.body) else {
                finish(self, &Told::invalid());
                continue;
            };
            let span = request.context.begin("ingest", "POST /ingest");
            let Some((lane, target)) = self.processor.lane() else {
                // No stream yet, or none at all: this one request waits for its own answer.
                drop(parsed);
                let (inner, answers) = (Arc::clone(self), answers.clone());
                self.lifecycle.tasks.spawn(async move {
                    let told = inner.ingest(&request.body, &request.context).await;
                    inner.count(&Method::POST, &told, started.elapsed());
                    answers.send(id_on_stream, told.status, told.retry_after_s, &told.body);
                    drop((permit, span));
                });
                continue;
            };
            self.counters.received.increment();
            let id = new_id();
            let (inner, answers) = (Arc::clone(self), answers.clone());
            let reply = Box::new(move |answer: Result<_, _>| {
                target.record(answer.is_ok());
                let told = match answer {
                    Ok(stream::frame::AnswerFrame { status, retry_after_s, .. }) => {
                        Told::of_processor(status, retry_after_s, &id)
                    }
                    Err(error) => Told::failed(u16::from(error == LaneError::Busy)),
                };
                inner.counters.fate(told.outcome == Outcome::Success);
                inner.count(&Method::POST, &told, started.elapsed());
                answers.send(id_on_stream, told.status, told.retry_after_s, &told.body);
                drop((permit, span));
            });
            lane.call(&request.context, |into| write(into, &id, &parsed), reply);
        }
    }
}
