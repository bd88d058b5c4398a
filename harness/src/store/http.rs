//! Our own store over HTTP/1.1, on bare connections: one for each lane to the leader, one to a member of its
//! own for reads that may be stale.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request as HttpRequest, StatusCode, header};
use serde::Deserialize;
use tokio::time::timeout;

use super::StoreConfig;
use super::answer::{Answer, Failure, Seen, decode};
use super::client::{Client, Request};
use crate::line::{CONNECT_LIMIT, Sender, ask, open};

/// Between two questions who leads.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// One lane's open connections: to the leader and to a member of its own.
#[derive(Default)]
struct Line {
    leader: Option<(Rc<str>, Sender)>,
    own: Option<(Rc<str>, Sender)>,
}

pub(super) struct HttpClient {
    members: Vec<Rc<str>>,
    leader: RefCell<Rc<str>>,
    lines: Vec<RefCell<Line>>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Written {
    revision: i64,
}

impl Client for HttpClient {
    async fn connect(config: &StoreConfig, lanes: u32) -> Result<Self, String> {
        let members: Vec<Rc<str>> = config.endpoints.iter().map(|e| Rc::from(e.as_str())).collect();
        let first = members.first().cloned().ok_or("there is no endpoint")?;
        let client = Self {
            members,
            leader: RefCell::new(first),
            lines: (0..lanes).map(|_| RefCell::default()).collect(),
            timeout: Duration::from_millis(config.timeout_ms),
        };
        timeout(client.timeout, async {
            while !client.find_leader().await {
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        })
        .await
        .map_err(|_| "no member knows a leader".to_owned())?;
        Ok(client)
    }

    async fn send(&self, lane: u32, key: &str, request: Request) -> Result<Answer, Failure> {
        let is_write = request.is_write();
        match timeout(self.timeout, self.exchange(lane, key, &request)).await {
            Ok(Err(failure)) => {
                self.find_leader().await;
                Err(failure)
            }
            Ok(answer) => answer,
            Err(_) => {
                // What comes on these connections now would be the answer to this request.
                *self.lines[lane as usize].borrow_mut() = Line::default();
                self.find_leader().await;
                let late = "no answer in time".to_owned();
                Err(if is_write { Failure::Unknown(late) } else { Failure::Refused(late) })
            }
        }
    }

    async fn states(&self) -> Result<Vec<(i64, u64)>, String> {
        #[derive(Deserialize)]
        struct State {
            revision: i64,
            hash: u64,
        }
        let mut states = Vec::new();
        for member in &self.members {
            let (_, body) = ask(member, "/raft/hash", self.timeout).await?;
            let state: State = serde_json::from_slice(&body).map_err(|e| format!("{member}: {e}"))?;
            states.push((state.revision, state.hash));
        }
        Ok(states)
    }
}

impl HttpClient {
    /// Asks every member who leads, until one knows.
    async fn find_leader(&self) -> bool {
        #[derive(Deserialize)]
        struct Leader {
            url: String,
        }
        for member in &self.members {
            let Ok((_, body)) = ask(member, "/raft/leader", CONNECT_LIMIT).await else { continue };
            let Ok(leader) = serde_json::from_slice::<Leader>(&body) else { continue };
            let address = leader.url.strip_prefix("http://").unwrap_or(&leader.url);
            *self.leader.borrow_mut() = Rc::from(address);
            return true;
        }
        false
    }

    async fn exchange(&self, lane: u32, key: &str, request: &Request) -> Result<Answer, Failure> {
        let serializable = matches!(request, Request::Get { serializable: true });
        let target = if serializable {
            Rc::clone(&self.members[lane as usize % self.members.len()])
        } else {
            Rc::clone(&self.leader.borrow())
        };
        let is_write = request.is_write();
        let http = build(&target, key, request).map_err(|e| Failure::Refused(e.to_string()))?;
        let mut sender = self.sender(lane, serializable, &target).await.map_err(Failure::Refused)?;
        let broken = |error: hyper::Error| {
            let text = format!("{target}: {error}");
            if is_write { Failure::Unknown(text) } else { Failure::Refused(text) }
        };
        let response = sender.send_request(http).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        // Whole and in order: the connection can be used again.
        let mut line = self.lines[lane as usize].borrow_mut();
        *(if serializable { &mut line.own } else { &mut line.leader }) = Some((target, sender));
        read(request, parts.status, &parts.headers, &body)
    }

    /// The lane's connection, taken out while it is in use, or a new one.
    async fn sender(&self, lane: u32, serializable: bool, target: &Rc<str>) -> Result<Sender, String> {
        let kept = {
            let mut line = self.lines[lane as usize].borrow_mut();
            if serializable { line.own.take() } else { line.leader.take() }
        };
        if let Some((to, mut sender)) = kept
            && to == *target
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        open(target).await
    }
}

/// Keys of a trial are of letters, digits, dashes and slashes: nothing to escape.
fn build(target: &str, key: &str, request: &Request) -> Result<HttpRequest<Full<Bytes>>, http::Error> {
    let builder = HttpRequest::builder().header(header::HOST, target);
    match request {
        Request::Put { value } => {
            builder.method(Method::PUT).uri(format!("/kv/{key}")).body(Full::new(value.clone()))
        }
        Request::Get { serializable } => {
            let query = if *serializable { "?consistency=serializable" } else { "" };
            builder.uri(format!("/kv/{key}{query}")).body(Full::default())
        }
        Request::Cas { expected, value } => {
            let builder = builder.method(Method::PUT).uri(format!("/kv/{key}"));
            let builder = match expected {
                0 => builder.header(header::IF_NONE_MATCH, "*"),
                revision => builder.header(header::IF_MATCH, format!("\"{revision}\"")),
            };
            builder.body(Full::new(value.clone()))
        }
        Request::Range { limit } => {
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            builder.uri(format!("/kv/?prefix={folder}/&after={key}&limit={limit}")).body(Full::default())
        }
    }
}

fn read(
    request: &Request,
    status: StatusCode,
    headers: &http::HeaderMap,
    body: &Bytes,
) -> Result<Answer, Failure> {
    let said = || format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
    match (status, request) {
        (StatusCode::OK, Request::Put { .. } | Request::Cas { .. }) => {
            let written: Written = serde_json::from_slice(body).map_err(|_| Failure::Unknown(said()))?;
            Ok(Answer::Written(written.revision))
        }
        (StatusCode::OK, Request::Get { .. }) => {
            let revision = headers.get("x-kv-mod-revision").and_then(|r| r.to_str().ok()?.parse().ok());
            let revision = revision.ok_or_else(|| Failure::Refused("no x-kv-mod-revision".to_owned()))?;
            Ok(Answer::Read(Some(Seen { value: decode(body), revision })))
        }
        (StatusCode::OK, Request::Range { .. }) => Ok(Answer::Ranged),
        (StatusCode::NOT_FOUND, Request::Get { .. }) => Ok(Answer::Read(None)),
        (StatusCode::PRECONDITION_FAILED, Request::Cas { .. }) => Ok(Answer::Conflict),
        (StatusCode::TEMPORARY_REDIRECT, _) => Err(Failure::Elsewhere),
        (StatusCode::GATEWAY_TIMEOUT, request) if request.is_write() => Err(Failure::Unknown(said())),
        _ => Err(Failure::Refused(said())),
    }
}
