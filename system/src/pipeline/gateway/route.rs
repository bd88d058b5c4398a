//! The paths of the gateway. They match exactly.

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ingest { under: &'static str },
    Enqueue,
    Health,
    Ready,
    Status { under: &'static str },
    Metrics,
    Unmatched,
}

/// The one whose answers also carry a `message`.
pub(super) const API_INGEST: &str = "/api/ingest";

impl Route {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/ingest" => Self::Ingest { under: "/ingest" },
            "/api/v1/ingest" => Self::Ingest { under: "/api/v1/ingest" },
            API_INGEST => Self::Ingest { under: API_INGEST },
            "/enqueue" => Self::Enqueue,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/status" => Self::Status { under: "/status" },
            "/api/v1/status" => Self::Status { under: "/api/v1/status" },
            "/metrics" => Self::Metrics,
            _ => Self::Unmatched,
        }
    }

    /// Its name in metrics.
    pub(super) fn pattern(self) -> &'static str {
        match self {
            Self::Ingest { under } | Self::Status { under } => under,
            Self::Enqueue => "/enqueue",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::Unmatched => super::super::http::metrics::UNMATCHED,
        }
    }

    /// Whether another service answers it.
    pub(super) fn is_passed_on(self) -> bool {
        matches!(self, Self::Ingest { .. } | Self::Enqueue)
    }
}
