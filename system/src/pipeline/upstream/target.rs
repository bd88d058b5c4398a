//! One address of the next service: its breaker and its stream.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{Empty, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{CallError, PlainRequest};
use crate::pipeline::breaker::Breaker;
use crate::pipeline::config::UpstreamConfig;
use crate::pipeline::stream;
use crate::pipeline::stream::lane::Lane;

/// How long a service that took no stream is spoken to in plain HTTP before it is asked again.
const PLAIN_FOR: Duration = Duration::from_secs(5);
/// How long a service may take to say whether it takes a stream.
const HANDSHAKE: Duration = Duration::from_millis(500);
/// Pause between attempts to connect in the background.
const RETRY: Duration = Duration::from_millis(500);
/// How long a stream's peer may refuse to read.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How to reach it now.
#[derive(Clone, Debug)]
pub(super) enum Link {
    Stream(Arc<Lane>),
    Plain,
}

/// What the URL says.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Usable {
        authority: Authority,
        prefix: String,
    },
    /// Parses, but names no host to speak HTTP with.
    Unusable,
    Invalid,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Target {
    url: String,
    base: Base,
    breaker: Mutex<Breaker>,
    /// Whether the breaker has anything to say; spares the lock while all is well.
    troubled: AtomicBool,
    link: Mutex<Option<(Link, Instant)>>,
    connecting: tokio::sync::Mutex<Option<(Instant, CallError)>>,
    timeout: Duration,
    connect_timeout: Duration,
    always_plain: bool,
    /// When it was last connected in the background.
    last_try: Mutex<Option<Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Target {
    pub(super) fn new(
        url: &str,
        config: &UpstreamConfig,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let base = match url.parse::<Uri>() {
            Err(_) => Base::Invalid,
            Ok(uri) => match (uri.scheme_str(), uri.authority()) {
                (Some("http"), Some(authority)) => Base::Usable {
                    authority: authority.clone(),
                    prefix: uri.path().trim_end_matches('/').to_owned(),
                },
                _ => Base::Unusable,
            },
        };
        Self {
            url: url.to_owned(),
            base,
            breaker: Mutex::new(Breaker::new(config.breaker())),
            troubled: AtomicBool::new(false),
            link: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
            timeout: config.timeout(),
            connect_timeout: config.connect_timeout(),
            always_plain: config.plain,
            last_try: Mutex::new(None),
            tasks,
            stop,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    pub(super) fn breaker_is_open(&self) -> bool {
        self.breaker.lock().is_open()
    }

    pub(super) fn times_opened(&self) -> u64 {
        self.breaker.lock().times_opened()
    }

    /// Asks the breaker.
    pub(super) fn admit(&self) -> Result<(), CallError> {
        if !self.troubled.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.breaker.lock().admit(std::time::Instant::now()).map_err(CallError::BreakerOpen)
    }

    /// Tells the breaker how a call went.
    pub(crate) fn record(&self, answered: bool) {
        if answered {
            if self.troubled.swap(false, Ordering::Relaxed) {
                self.breaker.lock().succeeded();
            }
        } else {
            let mut breaker = self.breaker.lock();
            breaker.failed(std::time::Instant::now());
            self.troubled.store(true, Ordering::Relaxed);
        }
    }

    /// Tells the breaker how a call ended and says whether that is the end of it, or whether another address
    /// may be tried.
    pub(super) fn settle<T>(
        &self,
        outcome: Result<Result<T, CallError>, tokio::time::error::Elapsed>,
    ) -> ControlFlow<Result<T, CallError>, CallError> {
        match outcome.unwrap_or(Err(CallError::TimedOut)) {
            Ok(value) => {
                self.record(true);
                ControlFlow::Break(Ok(value))
            }
            Err(error) => {
                if !matches!(error, CallError::BreakerOpen(_) | CallError::Busy) {
                    self.record(false);
                }
                if error.is_unsent() { ControlFlow::Continue(error) } else { ControlFlow::Break(Err(error)) }
            }
        }
    }

    /// The stream, if it is open.
    pub(super) fn open_lane(&self) -> Option<Arc<Lane>> {
        match &*self.link.lock() {
            Some((Link::Stream(lane), _)) if lane.is_open() => Some(Arc::clone(lane)),
            _ => None,
        }
    }

    /// Whether it is time for another attempt to connect in the background; at most one per pause.
    pub(super) fn is_due(&self) -> bool {
        if self.current().is_some() {
            return false;
        }
        let mut last = self.last_try.lock();
        let due = last.is_none_or(|at| at.elapsed() >= RETRY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// The way to speak to it: the one there is, or a new one.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Link, CallError> {
        self.admit()?;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let asked = Instant::now();
        let mut last_failure = self.connecting.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        // Whoever waited while an attempt failed shares that failure instead of repeating it.
        if let Some((at, error)) = &*last_failure
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.connect(deadline).await {
            Ok(link) => {
                *self.link.lock() = Some((link.clone(), Instant::now()));
                *last_failure = None;
                Ok(link)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn current(&self) -> Option<Link> {
        if self.always_plain {
            return Some(Link::Plain);
        }
        match &*self.link.lock() {
            Some((Link::Stream(lane), _)) if lane.is_open() => Some(Link::Stream(Arc::clone(lane))),
            Some((Link::Plain, since)) if since.elapsed() < PLAIN_FOR => Some(Link::Plain),
            _ => None,
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Link, CallError> {
        let (authority, prefix) = self.usable()?;
        let port = authority.port_u16().unwrap_or(80);
        let host = authority.host().trim_matches(['[', ']']);
        let until = deadline.min(Instant::now() + self.connect_timeout);
        let stream = tokio::time::timeout_at(until, TcpStream::connect((host, port)))
            .await
            .map_err(|_| CallError::Unreachable("no connection in time".into()))?
            .map_err(|error| CallError::Unreachable(error.to_string()))?;
        // Frames are written whole; waiting to fill a packet would only add delay.
        let _ = stream.set_nodelay(true);
        let until = deadline.min(Instant::now() + HANDSHAKE);
        match tokio::time::timeout_at(until, handshake(stream, authority, prefix)).await {
            Ok(Ok(Some(upgraded))) => {
                let lane = Lane::new(self.timeout);
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                let running = Arc::clone(&lane).run(reader, writer, WRITE_LIMIT, self.stop.clone());
                self.tasks.spawn(running);
                Ok(Link::Stream(lane))
            }
            // It answers something else, or hangs on a path that it does not know.
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(Link::Plain),
        }
    }

    fn usable(&self) -> Result<(&Authority, &str), CallError> {
        match &self.base {
            Base::Usable { authority, prefix } => Ok((authority, prefix)),
            Base::Unusable => Err(CallError::UnusableUrl),
            Base::Invalid => Err(CallError::InvalidUrl),
        }
    }

    /// A request to `path` on it.
    pub(super) fn request(
        &self,
        method: Method,
        path: &PathAndQuery,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<PlainRequest, CallError> {
        let (authority, prefix) = self.usable()?;
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority.clone())
            .path_and_query(format!("{prefix}{path}"))
            .build()
            .map_err(|_| CallError::UnusableUrl)?;
        headers.remove(HOST);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Asks for a stream; `None` when the service knows none.
async fn handshake(
    stream: TcpStream,
    authority: &Authority,
    prefix: &str,
) -> Result<Option<hyper::upgrade::Upgraded>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .uri(format!("{prefix}{}", stream::PATH))
        .header(HOST, authority.as_str())
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
        .header(UPGRADE, HeaderValue::from_static(stream::PROTOCOL))
        .body(Empty::<Bytes>::new())?;
    let connection = connection.with_upgrades();
    let asking = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(None);
        }
        Ok(Some(hyper::upgrade::on(answer).await?))
    };
    tokio::pin!(asking, connection);
    // The connection ends by itself when it is upgraded, and the answer to `asking` follows from it.
    tokio::select! {
        asked = &mut asking => return asked,
        ended = &mut connection => ended?,
    }
    asking.await
}
