//! After the load: whether every node holds every value that was acknowledged.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hyper::StatusCode;
use tokio::time::{Instant, sleep};

use super::ClusterConfig;
use super::client::{Ask, Client};
use super::subject::Written;

/// Requests to one node at once.
const LANES: u32 = 8;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What was found on one node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Every value.
    All,
    /// It answered, and not with these values.
    Missing(Vec<String>),
    /// It did not answer for all of them, which proves nothing.
    Unasked(String),
}

/// Asks every node for every value, in the order of the endpoints.
pub(super) async fn held(config: &ClusterConfig, written: &[Written]) -> Vec<Held> {
    join_all(config.endpoints.iter().map(|endpoint| on_node(config, endpoint, written))).await
}

async fn on_node(config: &ClusterConfig, endpoint: &str, written: &[Written]) -> Held {
    let timeout = Duration::from_millis(config.timeout_ms);
    let client = Client::new(&[endpoint.to_owned()], LANES, timeout);
    let deadline = Instant::now() + Duration::from_millis(config.catch_up_ms);
    let mut open: Vec<&Written> = written.iter().collect();
    loop {
        let found = ask_all(&client, &open).await;
        open = found.iter().filter(|(_, found)| *found != Found::Same).map(|(written, _)| *written).collect();
        if open.is_empty() {
            return Held::All;
        }
        if Instant::now() >= deadline {
            let silent = found.iter().find_map(|(_, found)| match found {
                Found::Silent(reason) => Some(reason.clone()),
                _ => None,
            });
            return match silent {
                Some(reason) => Held::Unasked(reason),
                None => Held::Missing(open.iter().map(|written| written.key.clone()).collect()),
            };
        }
        sleep(PAUSE).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Same,
    Other,
    Silent(String),
}

async fn ask_all<'a>(client: &Client, written: &[&'a Written]) -> Vec<(&'a Written, Found)> {
    let free = RefCell::new((0..LANES).collect::<Vec<_>>());
    let asked = futures_util::stream::iter(written.iter().copied()).map(|written| {
        let free = &free;
        async move {
            let lane = free.borrow_mut().pop().unwrap_or(0);
            let answer = client.ask(lane, Ask::Get(&written.path())).await;
            free.borrow_mut().push(lane);
            let found = match answer {
                Ok((StatusCode::OK, body)) if body == written.value() => Found::Same,
                Ok((StatusCode::OK | StatusCode::NOT_FOUND, _)) => Found::Other,
                Ok((status, _)) => Found::Silent(status.to_string()),
                Err(failure) => Found::Silent(format!("{failure:?}")),
            };
            (written, found)
        }
    });
    asked.buffer_unordered(LANES as usize).collect().await
}
