//! A client of a cluster with sequential users: each asks a node of its own, and the next one when that does
//! not answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, header};
use tokio::time::{Instant, timeout};

use crate::line::{Sender, open};

/// How long a node that did not answer is asked last.
const REST: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Certainly not done.
    Refused(String),
    /// May have been done.
    Unknown(String),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Ask<'a> {
    /// Reads a route.
    Get(&'a str),
    /// Writes to a route.
    Put(&'a str, Bytes),
}

/// One lane's open connection, and to which node.
type Line = Option<(usize, Sender)>;

pub(super) struct Client {
    nodes: Vec<Rc<str>>,
    lines: Vec<RefCell<Line>>,
    resting_until: RefCell<Vec<Option<Instant>>>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(endpoints: &[String], lanes: u32, timeout: Duration) -> Self {
        Self {
            nodes: endpoints.iter().map(|endpoint| Rc::from(endpoint.as_str())).collect(),
            lines: (0..lanes).map(|_| RefCell::default()).collect(),
            resting_until: RefCell::new(vec![None; endpoints.len()]),
            timeout,
        }
    }

    /// Asks one node after another, each at most once, until one answers. A write that may have been made
    /// is not repeated.
    pub(super) async fn ask(&self, lane: u32, ask: Ask<'_>) -> Result<(StatusCode, Bytes), Failure> {
        let mut last = Failure::Refused("there is no node".to_owned());
        for node in self.order(lane as usize) {
            last = match timeout(self.timeout, self.exchange(lane, node, &ask)).await {
                Ok(Ok(answer)) => {
                    self.resting_until.borrow_mut()[node] = None;
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Unknown(format!("{}: no answer in time", self.nodes[node])),
            };
            // What came on this connection now would be the answer to an earlier request.
            *self.lines[lane as usize].borrow_mut() = None;
            self.resting_until.borrow_mut()[node] = Some(Instant::now() + REST);
            if matches!((&ask, &last), (Ask::Put(..), Failure::Unknown(_))) {
                break;
            }
        }
        Err(match (ask, last) {
            // What only looks has not been done without its answer.
            (Ask::Get(_), Failure::Unknown(reason)) => Failure::Refused(reason),
            (_, last) => last,
        })
    }

    /// All nodes from the lane's own on, those that rest behind the others.
    fn order(&self, lane: usize) -> Vec<usize> {
        let (now, resting_until) = (Instant::now(), self.resting_until.borrow());
        let count = self.nodes.len();
        let all = (0..count).map(|step| (lane + step) % count);
        let (resting, mut order): (Vec<_>, Vec<_>) =
            all.partition(|&node| resting_until[node].is_some_and(|until| until > now));
        order.extend(resting);
        order
    }

    async fn exchange(&self, lane: u32, node: usize, ask: &Ask<'_>) -> Result<(StatusCode, Bytes), Failure> {
        let target = &self.nodes[node];
        let builder = Request::builder().header(header::HOST, &**target);
        let request = match ask {
            Ask::Get(path) => builder.uri(*path).body(Full::default()),
            Ask::Put(path, value) => builder.method(Method::PUT).uri(*path).body(Full::new(value.clone())),
        };
        let request = request.map_err(|e| Failure::Refused(e.to_string()))?;
        let mut sender = self.sender(lane, node).await.map_err(Failure::Refused)?;
        let broken = |error: hyper::Error| Failure::Unknown(format!("{target}: {error}"));
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        // Whole and in order: the connection can be used again.
        *self.lines[lane as usize].borrow_mut() = Some((node, sender));
        Ok((status, body))
    }

    /// The lane's connection, taken out while it is in use, or a new one.
    async fn sender(&self, lane: u32, node: usize) -> Result<Sender, String> {
        let kept = self.lines[lane as usize].borrow_mut().take();
        if let Some((to, mut sender)) = kept
            && to == node
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        open(&self.nodes[node]).await
    }
}
