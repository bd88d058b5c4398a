//! The HTTP API, both generations of routes.
//!
//! Everything that is asked is answered from what this node has applied; `/join` and `/remove-node` go to
//! the leader. Bodies are bounded ([`BODY_BYTES_MAX`], custom data [`MAX_VALUE_BYTES`]).
//!
//! With a shared secret (`Authorization: Bearer …`) or client certificates, joining, replication,
//! administration, what is meant for members only, and custom data, read or written, ask for either.
//! Members, partitions and figures stay open, since existing clients that look up where their keys live send
//! no credentials, unless `protect_reads` closes them too; `/health` and `/ready` are always open, for probes.

mod change;
mod query;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    client::RAFT_ID_HEADER,
    kit::ClusterKit,
    state::MAX_VALUE_BYTES,
    tls::{Remote, SecureListener, authorized},
};
use crate::raft::network;

/// The largest body of a request that is not custom data.
pub(super) const BODY_BYTES_MAX: usize = 2 << 20;

/// A request is answered within this time, or not at all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn router(kit: ClusterKit) -> Router {
    let guarded = Router::new()
        .route("/remove-node", post(change::remove_node))
        .route("/internal/change", post(change::change))
        .route("/internal/report", post(change::report))
        .route("/internal/listed", get(change::listed))
        .route("/rebalance/plan", get(query::plan))
        .route("/rebalance", post(change::rebalance))
        .route(
            "/custom-data/{*key}",
            get(query::custom_data)
                .post(change::set_custom_data)
                .put(change::set_custom_data)
                .delete(change::delete_custom_data),
        )
        .route("/join", any(change::join))
        .route_layer(middleware::from_fn_with_state(kit.clone(), authorize));
    let probes = Router::new().route("/health", get(query::health)).route("/ready", get(query::ready));
    let mut open = Router::new()
        .route("/cluster", get(query::cluster))
        .route("/nodes", get(query::nodes))
        .route("/partitions", get(query::partitions))
        .route("/partitions/stats", get(query::partition_stats))
        .route("/partitions/key", get(query::partition_of_key))
        .route("/consensus/leader", get(query::leader))
        .route("/consensus/stats", get(query::consensus_stats))
        .route("/metrics", get(query::metrics))
        .route("/metrics/prometheus", get(query::prometheus))
        .route("/health/detailed", get(query::health_detailed))
        .route("/health/nodes", get(query::health_nodes))
        .route("/sync", any(change::sync));
    if kit.0.settings.options.protect_reads {
        open = open.route_layer(middleware::from_fn_with_state(kit.clone(), authorize));
    }
    open.merge(guarded)
        .merge(probes)
        .fallback(|| async { text(StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX.max(MAX_VALUE_BYTES)))
        .layer(middleware::from_fn_with_state(kit.clone(), around))
        .with_state(kit)
}

/// Bounds, counts and names the node in every answer.
async fn around(State(kit): State<ClusterKit>, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut answer = answer.unwrap_or_else(|_| text(StatusCode::GATEWAY_TIMEOUT, "no answer in time\n"));
    kit.0.count(answer.status().is_client_error() || answer.status().is_server_error());
    answer.headers_mut().insert(RAFT_ID_HEADER, HeaderValue::from(kit.0.raft.identity().node()));
    answer
}

async fn authorize(State(kit): State<ClusterKit>, request: Request, next: Next) -> Response {
    if may_enter(&kit, &request) {
        return next.run(request).await;
    }
    text(
        StatusCode::UNAUTHORIZED,
        "this route asks for the cluster's shared secret or a member's certificate\n",
    )
}

fn may_enter(kit: &ClusterKit, request: &Request) -> bool {
    let remote = request.extensions().get::<ConnectInfo<Remote>>().map(|info| info.0);
    authorized(&kit.0.settings.options, remote, request.headers())
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into()).into_response()
}

fn json(body: &(impl Serialize + ?Sized)) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn json_with(status: StatusCode, body: impl Serialize) -> Response {
    (status, Json(body)).into_response()
}

pub(super) async fn serve(kit: ClusterKit, listener: SecureListener, stop: CancellationToken) {
    run(listener, router(kit), stop, "HTTP").await;
}

/// Serves the peers: one route, upgraded to a stream.
pub(super) async fn serve_raft(kit: ClusterKit, listener: SecureListener, stop: CancellationToken) {
    let peers = TaskTracker::new();
    let state = (kit, peers.clone(), stop.clone());
    let router = Router::new().route(network::PATH, post(peer)).with_state(state);
    run(listener, router, stop, "Raft").await;
}

async fn run(listener: SecureListener, router: Router, stop: CancellationToken, what: &'static str) {
    let router = router.into_make_service_with_connect_info::<Remote>();
    let serve = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serve.await {
        tracing::error!(%error, "the {what} server ended");
    }
}

async fn peer(
    State((kit, peers, stop)): State<(ClusterKit, TaskTracker, CancellationToken)>,
    mut request: Request,
) -> Response {
    if !may_enter(&kit, &request) {
        return text(
            StatusCode::UNAUTHORIZED,
            "replication asks for the cluster's shared secret or a certificate\n",
        );
    }
    let wanted = request.headers().get(header::UPGRADE).map(HeaderValue::as_bytes);
    if wanted != Some(network::wire::PROTOCOL.as_bytes()) {
        return text(StatusCode::BAD_REQUEST, "this port is for peers of the same protocol version\n");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    peers.spawn(async move {
        let serve = async {
            if let Ok(upgraded) = upgrade.await {
                kit.0.raft.serve_peer(TokioIo::new(upgraded)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve => {}
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, network::wire::PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
