//! The next service, as a caller sees it: one or several addresses, a stream to each where it can take one,
//! plain HTTP where it cannot, and a circuit breaker in front of each.
//!
//! A call tries each address at most once and only moves on when nothing was sent. Every wait is within the
//! call's deadline; connections in the making are shared by the calls that need them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::UpstreamConfig;
use super::context::RequestContext;
use super::stream::lane::{self, Lane, LaneError};
use crate::telemetry::metrics::Registry;

mod plain;
mod target;

use plain::PlainClient;
pub(crate) use target::Target;
use target::{Base, Link};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("upstream URL cannot be parsed")]
    InvalidUrl,
    #[error("upstream URL has no http:// host")]
    UnusableUrl,
    #[error("circuit breaker is open for {0:?}")]
    BreakerOpen(Duration),
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("too many calls without an answer")]
    Busy,
}

impl CallError {
    /// Whether nothing was sent, so that another address may be tried, or the same one later.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::BreakerOpen(_) | Self::Unreachable(_) | Self::Busy)
    }

    /// When trying again makes sense.
    pub(crate) fn retry_after(&self) -> Duration {
        match self {
            Self::BreakerOpen(wait) => *wait,
            _ => Duration::from_secs(1),
        }
    }
}

impl From<LaneError> for CallError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::TimedOut => Self::TimedOut,
            LaneError::Lost => Self::Lost(error.to_string()),
            LaneError::Busy => Self::Busy,
        }
    }
}

/// What the next service answered to a posted body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    pub(crate) status: u16,
    pub(crate) retry_after_s: u16,
    pub(crate) body: Bytes,
}

/// The next service.
#[derive(Debug)]
pub(crate) struct Upstream {
    targets: Vec<Arc<Target>>,
    next: AtomicUsize,
    plain: PlainClient,
    config: UpstreamConfig,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Upstream {
    /// Connects to nothing yet. `service` names it in the metrics.
    pub(crate) fn new(service: &'static str, config: &UpstreamConfig, registry: &Registry) -> Arc<Self> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let urls = config.url.split(',').map(str::trim);
        let targets: Vec<_> =
            urls.map(|url| Arc::new(Target::new(url, config, tasks.clone(), stop.clone()))).collect();
        for target in &targets {
            let (shown, counted) = (Arc::clone(target), Arc::clone(target));
            let labels = [("service", service), ("target", target.url())];
            registry.gauge_fn("upstream_breaker_open", "1 while calls fail at once.", &labels, move || {
                Some(if shown.breaker_is_open() { 1.0 } else { 0.0 })
            });
            #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
            registry.counter_fn("upstream_breaker_opened_total", "Times it opened.", &labels, move || {
                Some(counted.times_opened() as f64)
            });
            if let Base::Invalid | Base::Unusable = target.base() {
                tracing::warn!(service, url = target.url(), "upstream URL cannot be used");
            }
        }
        Arc::new(Self {
            targets,
            next: AtomicUsize::new(0),
            plain: PlainClient::new(config),
            config: config.clone(),
            tasks,
            stop,
        })
    }

    /// An open stream, if there is one and its breaker lets a call through: the way without any wait. An
    /// address whose turn it is and that has none is connected in the background meanwhile.
    pub(crate) fn lane(&self) -> Option<(Arc<Lane>, Arc<Target>)> {
        self.rotation().find_map(|target| match target.open_lane() {
            Some(lane) => target.admit().is_ok().then(|| (lane, Arc::clone(target))),
            None => {
                // A single address is connected by the call that needs it.
                if self.targets.len() > 1 {
                    self.connect_in_background(target);
                }
                None
            }
        })
    }

    fn connect_in_background(&self, target: &Arc<Target>) {
        if self.stop.is_cancelled() || !target.is_due() {
            return;
        }
        let (target, until) = (Arc::clone(target), Instant::now() + self.config.timeout());
        self.tasks.spawn(async move {
            if target.link(until).await.is_err() {
                target.record(false);
            }
        });
    }

    /// Posts `body` over a stream, or to `path` in plain HTTP.
    pub(crate) async fn post(
        &self,
        path: &'static str,
        context: &RequestContext,
        body: Bytes,
    ) -> Result<Posted, CallError> {
        if let Some((lane, target)) = self.lane() {
            let answer = lane::call(&lane, context, body).await;
            target.record(answer.is_ok());
            return Ok(answer.map(posted)?);
        }
        let deadline = Instant::now() + self.config.timeout();
        let mut last = CallError::InvalidUrl;
        for target in self.rotation() {
            let attempt = self.post_to(target, path, context, body.clone(), deadline);
            match target.settle(tokio::time::timeout_at(deadline, attempt).await) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(error) => last = error,
            }
        }
        Err(last)
    }

    async fn post_to(
        &self,
        target: &Target,
        path: &'static str,
        context: &RequestContext,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Posted, CallError> {
        if let Link::Stream(lane) = target.link(deadline).await? {
            return Ok(lane::call(&lane, context, body).await.map(posted)?);
        }
        let mut headers = HeaderMap::new();
        context.write(&mut headers);
        let request = target.request(Method::POST, &PathAndQuery::from_static(path), headers, body)?;
        let answer = self.plain.send(request, deadline).await?;
        let retry_after_s = answer
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        Ok(Posted { status: answer.status().as_u16(), retry_after_s, body: answer.into_body() })
    }

    /// Sends one request as plain HTTP and returns what came back, headers included.
    pub(crate) async fn forward(
        &self,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, CallError> {
        let deadline = Instant::now() + self.config.timeout();
        let mut last = CallError::InvalidUrl;
        for target in self.rotation() {
            let attempt = async {
                target.admit()?;
                let request = target.request(method.clone(), &path, headers.clone(), body.clone())?;
                self.plain.send(request, deadline).await
            };
            match target.settle(tokio::time::timeout_at(deadline, attempt).await) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether a posted body would go out as a plain request now. Makes the connection that decides it.
    pub(crate) async fn is_plain(&self) -> Result<bool, CallError> {
        if self.targets.iter().any(|target| target.open_lane().is_some()) {
            return Ok(false);
        }
        let deadline = Instant::now() + self.config.timeout();
        let mut last = CallError::InvalidUrl;
        for target in self.rotation() {
            let attempt = async { Ok(matches!(target.link(deadline).await?, Link::Plain)) };
            match target.settle(tokio::time::timeout_at(deadline, attempt).await) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(error) => last = error,
            }
        }
        Err(last)
    }

    /// A `GET`, for probes; independent of the breakers, so that a probe sees the service as it is.
    pub(crate) async fn get(
        &self,
        path: &'static str,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let deadline = Instant::now() + limit;
        let mut last = CallError::InvalidUrl;
        for target in &self.targets {
            let path = PathAndQuery::from_static(path);
            let request = target.request(Method::GET, &path, HeaderMap::new(), Bytes::new())?;
            match self.plain.send(request, deadline).await {
                Ok(answer) => return Ok((answer.status(), answer.into_body())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Every address once, beginning with the one whose turn it is.
    fn rotation(&self) -> impl Iterator<Item = &Arc<Target>> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.targets.len()).map(move |offset| &self.targets[(start + offset) % self.targets.len()])
    }

    /// Ends the streams: those that wait for answers get them, until `deadline`.
    pub(crate) async fn close(&self, deadline: Instant) {
        self.stop.cancel();
        self.tasks.close();
        // What is left ends with the runtime; every call on it has its own time limit.
        let _ = tokio::time::timeout_at(deadline, self.tasks.wait()).await;
    }
}

fn posted(answer: super::stream::frame::AnswerFrame) -> Posted {
    Posted { status: answer.status, retry_after_s: answer.retry_after_s, body: answer.body }
}

/// A request ready to be sent.
pub(crate) type PlainRequest = Request<http_body_util::Full<Bytes>>;
