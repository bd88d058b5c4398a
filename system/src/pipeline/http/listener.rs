//! Accepts connections and serves requests on them until told to drain.
//!
//! Bounds: connections in all and per client address (one more gets a 503 and is closed), time for a head, time
//! without reading answers, size of a head. Draining closes the listening socket first, lets requests in work
//! finish, and ends what is left at the deadline.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::io::WriteTimeout;
use super::respond::Answer;
use crate::pipeline::config::ServerConfig;
use crate::telemetry::metrics::{Counter, Registry};

/// Answers one request.
pub(crate) trait Service: Send + Sync + 'static {
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> impl Future<Output = Answer> + Send;
}

/// How tasks of one service end: first `drain`, then, at the deadline, `abort`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    pub(crate) drain: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Lifecycle {
    /// Asks all tasks to end and waits for them; at `deadline` they are ended. Says whether all ended by
    /// themselves.
    pub(crate) async fn finish(&self, deadline: Instant) -> bool {
        self.drain.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok() {
            return true;
        }
        self.abort.cancel();
        self.tasks.wait().await;
        false
    }
}

/// Who is connected.
#[derive(Debug)]
struct Connections {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

struct Shared {
    config: ServerConfig,
    connections: Mutex<Connections>,
    refused: Counter,
}

/// Starts accepting; returns where.
pub(crate) async fn listen<S: Service>(
    config: &ServerConfig,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: Arc<S>,
    registry: &Registry,
    lifecycle: Lifecycle,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(config.address()).await?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        config: config.clone(),
        connections: Mutex::new(Connections { total: 0, by_client: HashMap::new() }),
        refused: registry.counter("http_connections_refused_total", "Connections over the bounds.", &[]),
    });
    let gauge = Arc::clone(&shared);
    #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
    registry.gauge_fn(
        "http_connections",
        "Connections open.",
        &[("tls", if tls.is_some() { "true" } else { "false" })],
        move || Some(gauge.connections.lock().total as f64),
    );
    let tasks = lifecycle.tasks.clone();
    tasks.spawn(accept(listener, tls, service, shared, lifecycle));
    Ok(address)
}

async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: Arc<S>,
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
) {
    let acceptor = tls.map(tokio_rustls::TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or a connection that died early: others must go on.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Some(place) = Place::take(&shared, client.ip()) else {
            shared.refused.increment();
            refuse(stream);
            continue;
        };
        // Answers are small: waiting to fill a packet would only add delay.
        let _ = stream.set_nodelay(true);
        let (service, lifecycle_of_task) = (Arc::clone(&service), lifecycle.clone());
        let config = shared.config.clone();
        match acceptor.clone() {
            None => {
                let io = WriteTimeout::new(TokioIo::new(stream), config.write_timeout());
                lifecycle.tasks.spawn(async move {
                    serve_http1(io, client, service, &config, &lifecycle_of_task).await;
                    drop(place);
                });
            }
            Some(acceptor) => {
                lifecycle.tasks.spawn(async move {
                    let handshake = tokio::time::timeout(config.header_timeout(), acceptor.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        let io = WriteTimeout::new(TokioIo::new(stream), config.write_timeout());
                        serve_any(io, client, service, &config, &lifecycle_of_task).await;
                    }
                    drop(place);
                });
            }
        }
    }
}

async fn serve_http1<S: Service, I: Read + Write + Unpin + Send + 'static>(
    io: I,
    client: SocketAddr,
    service: Arc<S>,
    config: &ServerConfig,
    lifecycle: &Lifecycle,
) {
    let handler = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.respond(request, client).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout())
        .max_buf_size(config.max_head_bytes.max(8_192))
        .serve_connection(io, handler)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lifecycle.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = lifecycle.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %client, "connection ended with an error");
    }
}

/// HTTP/1.1 or HTTP/2, whichever the client begins with.
async fn serve_any<S: Service, I: Read + Write + Unpin + Send + 'static>(
    io: I,
    client: SocketAddr,
    service: Arc<S>,
    config: &ServerConfig,
    lifecycle: &Lifecycle,
) {
    let handler = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.respond(request, client).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout())
        .max_buf_size(config.max_head_bytes.max(8_192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        // A client that opens and resets streams without pause is cut off instead of served.
        .max_pending_accept_reset_streams(Some(32))
        .max_local_error_reset_streams(Some(256))
        .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(config.header_timeout())
        .keep_alive_timeout(config.header_timeout());
    let connection = builder.serve_connection(io, handler);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lifecycle.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = lifecycle.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %client, "connection ended with an error");
    }
}

/// Tells a client that there is no room, without waiting for it to read.
fn refuse(stream: TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
        content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\nToo many connections\n";
    let mut stream = stream;
    // The send buffer of a new connection is empty, so one poll writes all of it or nothing will.
    let _ = futures_util::FutureExt::now_or_never(stream.write_all(FULL));
}

/// A connection's place among the bounded number; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let mut connections = shared.connections.lock();
        if connections.total >= shared.config.max_connections {
            return None;
        }
        let of_client = connections.by_client.entry(client).or_insert(0);
        let bound = shared.config.max_connections_per_client;
        if bound > 0 && *of_client >= bound {
            return None;
        }
        *of_client += 1;
        connections.total += 1;
        Some(Self { shared: Arc::clone(shared), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock();
        connections.total -= 1;
        if let Some(of_client) = connections.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                connections.by_client.remove(&self.client);
            }
        }
    }
}
