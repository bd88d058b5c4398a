//! The HTTP API, both generations of routes.
//!
//! Everything that is asked is answered from what this node has applied; `/join` and `/remove-node` go to
//! the leader. Bodies are bounded ([`BODY_BYTES_MAX`], custom data [`MAX_VALUE_BYTES`]). With a shared secret
//! the routes that change something or are meant for members only ask for `Authorization: Bearer …`.

mod change;
mod query;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
    serve::ListenerExt,
};
use http::{HeaderValue, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{client::RAFT_ID_HEADER, kit::ClusterKit, state::MAX_VALUE_BYTES};
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
    let open = Router::new()
        .route("/health", get(query::health))
        .route("/ready", get(query::ready))
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
    open.merge(guarded)
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
    let Some(secret) = &kit.0.settings.options.shared_secret else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let reads = request.method() == Method::GET && !request.uri().path().starts_with("/internal/");
    if reads || same(given.as_bytes(), secret.as_bytes()) {
        return next.run(request).await;
    }
    text(StatusCode::UNAUTHORIZED, "this route asks for the cluster's shared secret\n")
}

/// Compares without telling by its time how much is right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (given, wanted) = (Sha256::digest(given), Sha256::digest(wanted));
    given.iter().zip(&wanted).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
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

pub(super) async fn serve(kit: ClusterKit, listener: TcpListener, stop: CancellationToken) {
    run(listener, router(kit), stop, "HTTP").await;
}

/// Serves the peers: one route, upgraded to a stream.
pub(super) async fn serve_raft(kit: ClusterKit, listener: TcpListener, stop: CancellationToken) {
    let peers = TaskTracker::new();
    let state = (kit, peers.clone(), stop.clone());
    let router = Router::new().route(network::PATH, post(peer)).with_state(state);
    run(listener, router, stop, "Raft").await;
}

async fn run(listener: TcpListener, router: Router, stop: CancellationToken, what: &'static str) {
    let listener = listener.tap_io(|io| {
        // Small answers must not wait for a delayed acknowledgement; without it they are only slower.
        let _ = io.set_nodelay(true);
    });
    let serve = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serve.await {
        tracing::error!(%error, "the {what} server ended");
    }
}

async fn peer(
    State((kit, peers, stop)): State<(ClusterKit, TaskTracker, CancellationToken)>,
    mut request: Request,
) -> Response {
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
