//! The yardstick of the pipeline's services: one hop of a bare chain of axum servers with pooled hyper clients.
//!
//! A hop that is given a next one passes `POST` bodies through to it, streamed; the last one parses the body's
//! JSON and answers with an id. It does nothing of what a gateway, an ingest service or a processor does, so it
//! is what plain HTTP between three services costs at the least:
//!
//!     three_hops 18082 & three_hops 18081 18082 & three_hops 18080 18081 &
//!     wrk -t1 -c16 -d10s -s benches/post.lua http://127.0.0.1:18080/ingest
//!
//! `benches/three_hops.sh` does that in turns with our own three programs. Threads: the third argument or 2.
#![expect(clippy::print_stderr, reason = "a program for a terminal")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

/// What the last hop reads of a body.
#[derive(serde::Deserialize)]
struct Record<'b> {
    source: &'b str,
    data: &'b str,
}

#[derive(Clone)]
struct Next {
    client: Client<HttpConnector, Body>,
    port: u16,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u16>().ok());
    let (Some(Some(port)), next, threads) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: three_hops PORT [PORT-OF-THE-NEXT-HOP, 0 for none] [THREADS]");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.flatten().unwrap_or(2).max(1).into())
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(port, next.flatten().filter(|port| *port != 0)));
}

async fn serve(port: u16, next: Option<u16>) {
    let app = match next {
        Some(port) => {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(256).build(connector);
            Router::new().route("/ingest", post(pass)).with_state(Next { client, port })
        }
        None => Router::new()
            .route("/ingest", post(last))
            .route("/api/v1/ingest", post(last))
            .with_state(Arc::new(AtomicU64::new(0))),
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free").tap_io(|stream| {
        // As our own services do.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await.expect("it serves");
}

async fn pass(State(next): State<Next>, mut request: Request) -> Response {
    *request.uri_mut() =
        Uri::try_from(format!("http://127.0.0.1:{}/ingest", next.port)).expect("a port makes a URL");
    match next.client.request(request).await {
        Ok(answer) => answer.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn last(State(count): State<Arc<AtomicU64>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Record<'_>>(&body) {
        Ok(record) => {
            let id = count.fetch_add(1, Ordering::Relaxed) + (record.source.len() + record.data.len()) as u64;
            format!("{{\"messageId\":\"{id:036}\",\"status\":\"accepted\"}}").into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
