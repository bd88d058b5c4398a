//! Failures as HTTP answers: status, code, message, and the headers a client acts on.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::Api;
use crate::{
    kv::service::KvError,
    raft::node::{Leader, MembershipError, WriteError, reads::ReadError},
};

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: Value,
    headers: Vec<(header::HeaderName, String)>,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl std::fmt::Display) -> Self {
        let body = json!({ "error": code, "message": message.to_string() });
        Self { status, body, headers: Vec::new() }
    }

    pub(super) fn bad_request(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn no_leader(message: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_leader", message);
        failure.headers.push((header::RETRY_AFTER, "1".into()));
        failure
    }

    fn unknown(message: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message);
        failure.body["outcome"] = "unknown".into();
        failure
    }

    fn busy(message: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        failure.headers.push((header::RETRY_AFTER, "1".into()));
        failure
    }

    /// Sends the client to the leader with the same method, path, query and body.
    fn redirect(api: &Api, leader: &Leader, uri: &Uri) -> Self {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut failure = Self::new(StatusCode::TEMPORARY_REDIRECT, "not_leader", "this node does not lead");
        failure.headers.push((header::LOCATION, format!("{}{path}", leader.url)));
        let name = api.kv.node().identity().name_of(leader.node).unwrap_or_else(|| leader.node.to_string());
        failure.headers.push((header::HeaderName::from_static("x-raft-leader"), name));
        failure
    }

    fn to_leader(api: &Api, leader: Option<&Leader>, uri: &Uri) -> Self {
        match leader {
            Some(leader) => Self::redirect(api, leader, uri),
            None => Self::no_leader("there is no leader at the moment"),
        }
    }

    pub(super) fn of_write(api: &Api, error: &KvError, uri: &Uri) -> Self {
        match error {
            KvError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error),
            KvError::NoSpace => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", error),
            KvError::Refused(_) => Self::bad_request(error),
            KvError::Write(WriteError::NotLeader(leader)) => Self::to_leader(api, leader.as_ref(), uri),
            KvError::Write(WriteError::Busy) => Self::busy(error),
            KvError::Write(WriteError::Unknown(_)) => Self::unknown(error),
            KvError::Write(WriteError::Stopped(_)) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", error)
            }
        }
    }

    pub(super) fn of_read(api: &Api, error: &ReadError, uri: &Uri) -> Self {
        match error {
            ReadError::Busy => Self::busy(error),
            ReadError::Behind => Self::no_leader(error),
            ReadError::NoLeader(_) => match api.kv.node().leader() {
                // Asking the leader failed from here; the client may reach it.
                Some(leader) if leader.node != api.kv.node().identity().node() => {
                    Self::redirect(api, &leader, uri)
                }
                _ => Self::no_leader(error),
            },
        }
    }

    pub(super) fn of_membership(api: &Api, error: &MembershipError, uri: &Uri) -> Self {
        match error {
            MembershipError::NotLeader(leader) => Self::to_leader(api, leader.as_ref(), uri),
            MembershipError::InProgress => Self::new(StatusCode::CONFLICT, "change_in_progress", error),
            MembershipError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "member_not_found", error),
            MembershipError::Invalid(_) => Self::new(StatusCode::CONFLICT, "invalid_change", error),
            MembershipError::Unknown(_) => Self::unknown(error),
        }
    }
}
