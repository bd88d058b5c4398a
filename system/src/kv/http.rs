//! The HTTP API: `/kv/…` for keys, `/raft/…` for the cluster, probes and metrics.
//!
//! Writes are done by the leader; others answer 307 with the leader's address and keep method and body.
//! Linearizable reads are served by any node. An answer of 200 to a write means committed and applied; 504
//! with `"outcome":"unknown"` means that it may or may not be. Errors are
//! `{"error":"<code>","message":"…"}`.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{any, delete, get, post},
};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;

use super::service::Kv;
use crate::raft::network;
use answer::Failure;

mod answer;
mod cluster;
mod keys;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    kv: Arc<Kv>,
    client: super::client::HttpClient,
    metrics: Option<Arc<Metrics>>,
    peers: TaskTracker,
}

struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// The whole API over a store. Without a metrics handle `/metrics` answers 404.
pub fn router(kv: Arc<Kv>, metrics: Option<PrometheusHandle>) -> Router {
    let metrics = metrics.map(|handle| Arc::new(Metrics(handle)));
    let api = Api { kv, client: super::client::HttpClient::new(), metrics, peers: TaskTracker::new() };
    Router::new()
        .route("/kv/", any(keys::handle))
        .route("/kv/{*key}", any(keys::handle))
        .route("/raft/leader", get(cluster::leader))
        .route("/raft/state", get(cluster::state))
        .route("/raft/hash", get(cluster::hash))
        .route("/raft/identity", get(cluster::identity))
        .route("/raft/members", post(cluster::add))
        .route("/raft/members/{id}", delete(cluster::remove))
        .route("/raft/transfer", post(cluster::transfer))
        .route("/alarms", get(cluster::alarms).delete(cluster::disarm))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(cluster::ready))
        .route("/metrics", get(prometheus))
        .fallback(|| async { Failure::not_found("there is no such route").into_response() })
        .layer(axum::middleware::from_fn(measure))
        .route(network::PATH, post(peer))
        .with_state(api)
}

async fn measure(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().to_string();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("http_requests_total", "method" => method.clone(), "status" => status).increment(1);
    metrics::histogram!("http_request_seconds", "method" => method).record(began.elapsed());
    response
}

async fn prometheus(State(api): State<Api>) -> Response {
    let Some(metrics) = &api.metrics else {
        return Failure::not_found("metrics are not collected in this process").into_response();
    };
    if let Ok(status) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = status.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok())
    {
        metrics::gauge!("process_resident_memory_bytes").set(pages * 4096.0);
    }
    metrics.0.run_upkeep();
    ([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.0.render()).into_response()
}

/// A peer wants a stream of its own.
async fn peer(State(api): State<Api>, mut request: Request) -> Response {
    let wanted = request.headers().get(http::header::UPGRADE).map(http::HeaderValue::as_bytes);
    if wanted != Some(network::wire::PROTOCOL.as_bytes()) {
        return Failure::bad_request("this route is for peers of the same protocol version").into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let kv = api.kv.clone();
    // Ends with the connection, or when the node stops.
    api.peers.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            kv.node().serve_peer(TokioIo::new(upgraded)).await;
        }
    });
    let headers = [(http::header::CONNECTION, "upgrade"), (http::header::UPGRADE, network::wire::PROTOCOL)];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
