//! The state of the services behind, asked for per request: both at once, each within two seconds.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Inner;
use crate::pipeline::http::respond::{self, Answer};
use crate::pipeline::upstream::Upstream;

const LIMIT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Status {
    services: [&'static str; 2],
    ingest: Backend,
    processor: Backend,
}

#[derive(Serialize)]
struct Backend {
    healthy: bool,
    stats: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Inner {
    pub(super) async fn status(&self) -> Answer {
        let (ingest, processor) = tokio::join!(ask(&self.ingest), ask(&self.processor));
        let status = Status { services: ["ingest", "processor"], ingest, processor };
        match serde_json::to_vec(&status) {
            Ok(body) => respond::json(StatusCode::OK, body),
            Err(error) => {
                tracing::error!(%error, "status cannot be written");
                respond::plain(StatusCode::INTERNAL_SERVER_ERROR, "Failed to write status")
            }
        }
    }
}

async fn ask(upstream: &Upstream) -> Backend {
    let (health, stats) = tokio::join!(upstream.get("/health", LIMIT), upstream.get("/stats", LIMIT));
    let healthy = matches!(health, Ok((StatusCode::OK, _)));
    let stats = match stats {
        Ok((StatusCode::OK, body)) => serde_json::from_slice::<Box<RawValue>>(&body)
            .map_err(|error| format!("stats are not JSON: {error}")),
        Ok((status, _)) => Err(format!("stats answered {status}")),
        Err(error) => Err(error.to_string()),
    };
    match stats {
        Ok(stats) => Backend { healthy, stats: Some(stats), error: None },
        Err(error) => Backend { healthy, stats: None, error: Some(error) },
    }
}
