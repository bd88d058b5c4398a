//! The processor's HTTP side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::depth::KnownDepth;
use super::feed::{self, Feed};
use super::intake::{EnqueueError, Intake, Reply};
use super::pool::Pool;
use super::processing::{Processing, ResultSink};
use super::{Parts, StartError, message, stats};
use crate::message::Message;
use crate::pipeline::admission::Admission;
use crate::pipeline::config::ProcessorConfig;
use crate::pipeline::context::RequestContext;
use crate::pipeline::http::body::{self, BodyError};
use crate::pipeline::http::listener::{self, Lifecycle, Service};
use crate::pipeline::http::metrics::{RequestMetrics, UNMATCHED};
use crate::pipeline::http::respond::{self, Answer, X_REQUEST_ID};
use crate::pipeline::stream;
use crate::pipeline::stream::frame::RequestFrame;
use crate::pipeline::stream::server::{Answers, StreamLimits, StreamService};
use crate::queue::Queue;
use crate::telemetry::metrics::{Counter, Registry};

const ROUTE: &str = "/enqueue";
/// How often overdue messages are answered and the depth is asked for.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_DEPTH: u32 = 4;

/// One processor, whatever its queue.
pub(super) struct Inner<Q: Queue> {
    pub(super) queue: Arc<Q>,
    pub(super) pool: Pool,
    pub(super) lifecycle: Lifecycle,
    /// Ends the task that watches the queue.
    pub(super) background: CancellationToken,
    intake: Intake<Q::Publisher>,
    pub(super) config: ProcessorConfig,
    feed: Option<Arc<Feed>>,
    depth: Arc<KnownDepth>,
    admission: Arc<Admission>,
    registry: Arc<Registry>,
    http: RequestMetrics,
    full: Counter,
    overloaded: Counter,
}

impl<Q: Queue> Inner<Q> {
    pub(super) async fn start<P: Processing>(
        config: ProcessorConfig,
        parts: Parts<Q, P>,
    ) -> Result<(SocketAddr, Arc<Self>), StartError> {
        let registry = Arc::new(Registry::default());
        crate::telemetry::process::register(&registry);
        registry.gauge_fn("system_health_status", "1 while the service answers.", &[], || Some(1.0));
        let Parts { queue, processing, dead_letters, results } = parts;
        let queue = Arc::new(queue);
        let (feed, results) = if config.result_feed {
            let feed = Arc::new(Feed::before(results));
            (Some(Arc::clone(&feed)), Some(feed as Arc<dyn ResultSink>))
        } else {
            (None, results)
        };
        let parts = Parts { queue: (), processing, dead_letters, results };
        let intake = Intake::open(&*queue, config.publish_timeout()).await?;
        let pool = Pool::start(&config, &queue, parts, &registry).await?;
        let refused =
            |reason| registry.counter("processor_refused_total", "Messages refused.", &[("reason", reason)]);
        let inner = Arc::new(Self {
            pool,
            intake,
            lifecycle: Lifecycle::default(),
            background: CancellationToken::new(),
            depth: Arc::default(),
            admission: Admission::new(config.server.max_in_flight, config.server.max_in_flight_bytes),
            http: RequestMetrics::new(
                Arc::clone(&registry),
                "http_requests_total",
                "http_request_duration_seconds",
            ),
            full: refused("queue_full"),
            overloaded: refused("overloaded"),
            registry,
            queue,
            feed,
            config,
        });
        inner.register_gauges();
        let server = &inner.config.server;
        let listening =
            listener::listen(server, None, Arc::clone(&inner), &inner.registry, inner.lifecycle.clone())
                .await;
        let address = listening.map_err(|source| StartError::Listen { address: server.address(), source })?;
        inner.lifecycle.tasks.spawn(watch(Arc::clone(&inner)));
        Ok((address, inner))
    }

    fn register_gauges(&self) {
        let registry = &self.registry;
        #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
        let workers = self.config.workers as f64;
        registry.gauge_fn("processor_worker_pool_size", "Workers configured.", &[], move || Some(workers));
        for name in ["processor_queue_size", "queue_size", "queue_current_size"] {
            let depth = Arc::clone(&self.depth);
            #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
            registry.gauge_fn(
                name,
                "Messages not yet processed, as the queue counts them.",
                &[],
                move || depth.get().map(|depth| depth as f64),
            );
        }
        let capacity = self.queue.statistics().capacity;
        #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
        registry.gauge_fn("queue_capacity", "Messages that fit, where there is a bound.", &[], move || {
            capacity.map(|capacity| capacity as f64)
        });
    }

    async fn post(&self, request: Request<Incoming>) -> Answer {
        let mut context = RequestContext::of_headers(request.headers());
        let span = context.begin("processor", "POST /enqueue");
        let mut answer = match self.enqueue(request, &context).await {
            Ok(answer) => answer,
            Err(error) => error.answer(),
        };
        drop(span);
        answer.headers_mut().insert(X_REQUEST_ID, context.request_id_header());
        answer
    }

    async fn enqueue(
        &self,
        request: Request<Incoming>,
        context: &RequestContext,
    ) -> Result<Answer, BodyError> {
        let Some(mut permit) = self.admission.admit(0) else {
            self.overloaded.increment();
            return Err(BodyError::Busy);
        };
        let server = &self.config.server;
        let body = body::read(request.into_body(), server.max_body_bytes, server.body_timeout(), &mut permit)
            .await?;
        let fate = match self.read(&body, context) {
            Some(message) => self.intake.enqueue(message).await,
            None => return Ok(respond::plain(StatusCode::BAD_REQUEST, "Invalid request body")),
        };
        let told = self.told(&fate);
        if told.status == StatusCode::ACCEPTED {
            return Ok(respond::empty(told.status));
        }
        let answer = respond::plain_bytes(told.status, Bytes::from_static(told.body));
        Ok(match told.retry_after_s {
            0 => answer,
            seconds => respond::retry_after(answer, Duration::from_secs(seconds.into())),
        })
    }

    fn read(&self, body: &[u8], context: &RequestContext) -> Option<Message> {
        message::of_body(body, context).inspect_err(|error| tracing::debug!(%error, "refused")).ok()
    }

    fn told(&self, fate: &Result<(), EnqueueError>) -> Told {
        match fate {
            Ok(()) => Told { status: StatusCode::ACCEPTED, retry_after_s: 0, body: b"" },
            Err(EnqueueError::Full) => {
                self.full.increment();
                Told { status: StatusCode::SERVICE_UNAVAILABLE, retry_after_s: 1, body: b"Queue is full\n" }
            }
            Err(error) => {
                tracing::debug!(%error, "message not in the queue");
                let body = b"Failed to enqueue message\n";
                Told { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after_s: 0, body }
            }
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if self.lifecycle.drain.is_cancelled() {
            return Err("draining".into());
        }
        self.depth.refresh(&*self.queue).await.map(|_| ())
    }

    async fn stats(&self) -> String {
        // A broker that does not answer leaves the depth out; the counters are ours.
        let depth = self.depth.refresh(&*self.queue).await.ok().flatten();
        stats::body(&self.queue.statistics(), depth, self.pool.counters(), self.config.workers)
    }
}

/// What the sender of one message is told.
struct Told {
    status: StatusCode,
    retry_after_s: u16,
    body: &'static [u8],
}

async fn watch<Q: Queue>(inner: Arc<Inner<Q>>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        tokio::select! {
            // Goes on while requests drain, since it answers the overdue ones.
            () = inner.lifecycle.drain.cancelled(), if inner.admission.in_flight() == 0 => return,
            () = inner.background.cancelled() => return,
            _ = ticks.tick() => {}
        }
        inner.intake.expire();
        if count.is_multiple_of(TICKS_PER_DEPTH)
            && let Err(error) = inner.depth.refresh(&*inner.queue).await
        {
            tracing::debug!(%error, "depth unknown");
        }
        count = count.wrapping_add(1);
    }
}

impl<Q: Queue> Service for Inner<Q> {
    async fn respond(self: Arc<Self>, request: Request<Incoming>, _client: SocketAddr) -> Answer {
        let started = Instant::now();
        let method = request.method().clone();
        let (route, answer) = match request.uri().path() {
            ROUTE if method == Method::POST => (ROUTE, self.post(request).await),
            ROUTE => (ROUTE, respond::method_not_allowed()),
            "/health" => ("/health", respond::healthy()),
            "/ready" => ("/ready", respond::readiness(self.ready().await)),
            "/stats" => ("/stats", respond::json(StatusCode::OK, self.stats().await)),
            "/metrics" => ("/metrics", respond::metrics(self.registry.render())),
            "/dead-letters" => {
                ("/dead-letters", respond::json(StatusCode::OK, self.pool.dead_letters().listing()))
            }
            stream::PATH => {
                let limits = StreamLimits {
                    // What ingest makes of a body at its limit is a third larger, and holds an id and a time.
                    max_body_bytes: self.config.server.max_body_bytes * 2,
                    write_timeout: self.config.server.write_timeout(),
                };
                (stream::PATH, stream::server::upgrade(request, Arc::clone(&self), limits, &self.lifecycle))
            }
            feed::PATH => match &self.feed {
                Some(feed) => (feed::PATH, feed.listen(request, &self.lifecycle)),
                None => (UNMATCHED, respond::not_found()),
            },
            _ => (UNMATCHED, respond::not_found()),
        };
        self.http.record(&method, route, answer.status(), started.elapsed());
        answer
    }
}

impl<Q: Queue> StreamService for Inner<Q> {
    async fn take(self: &Arc<Self>, requests: &mut Vec<RequestFrame>, answers: &Answers) {
        let started = Instant::now();
        let finish = move |inner: &Self, answers: &Answers, id, told: &Told| {
            inner.http.record(&Method::POST, ROUTE, told.status, started.elapsed());
            answers.send(id, told.status, told.retry_after_s, told.body);
        };
        let messages = requests.drain(..).filter_map(|mut request| {
            let id = request.id;
            let Some(permit) = self.admission.admit(request.body.len()) else {
                self.overloaded.increment();
                let status = StatusCode::SERVICE_UNAVAILABLE;
                finish(self, answers, id, &Told { status, retry_after_s: 1, body: b"Service overloaded\n" });
                return None;
            };
            let span = request.context.begin("processor", "POST /enqueue");
            let Some(message) = self.read(&request.body, &request.context) else {
                let status = StatusCode::BAD_REQUEST;
                finish(
                    self,
                    answers,
                    id,
                    &Told { status, retry_after_s: 0, body: b"Invalid request body\n" },
                );
                return None;
            };
            let (inner, answers) = (Arc::clone(self), answers.clone());
            let reply: Reply = Box::new(move |fate| {
                let told = inner.told(&fate);
                finish(&inner, &answers, id, &told);
                drop((permit, span));
            });
            Some((message, reply))
        });
        self.intake.enqueue_all(messages).await;
    }
}
