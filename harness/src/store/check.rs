//! Before and after the load: keys are filled, so that reads find something; afterwards all that was written
//! is read once more, and the members' states are compared.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use super::StoreConfig;
use super::answer::{Answer, Failure, ValueId, encode};
use super::client::{Client, Request};
use super::recorder::{Record, Recorder};
use super::subject::blank;
use crate::clock;
use crate::consistency::history::Kind;
use crate::envelope;

/// Requests at once.
const LANES: u32 = 16;
/// How long members may take to have the same state.
const EQUAL_LIMIT: Duration = Duration::from_secs(10);
/// How long one request is repeated.
const REPEAT_LIMIT: Duration = Duration::from_secs(10);
/// Values of the first fill are numbered from here: below those of the workers.
const FIRST_VALUE: ValueId = 1;

/// Writes every key once.
pub(super) async fn fill<C: Client>(config: &StoreConfig, names: &[String]) -> Result<Recorder, String> {
    each::<C>(config, names, |key| {
        let id = FIRST_VALUE + u64::from(key);
        (
            Record { argument: Some(id), ..blank(Kind::Put, 0, key) },
            Request::Put { value: encode(id, envelope::LEN, &[]) },
        )
    })
    .await
}

/// Reads every key once, linearizably.
pub(super) async fn read_all<C: Client>(config: &StoreConfig, names: &[String]) -> Result<Recorder, String> {
    each::<C>(config, names, |key| (blank(Kind::Get, 0, key), Request::Get { serializable: false })).await
}

async fn each<C: Client>(
    config: &StoreConfig,
    names: &[String],
    request: impl Fn(u32) -> (Record, Request),
) -> Result<Recorder, String> {
    let client = C::connect(config, LANES).await?;
    let recorder = RefCell::new(Recorder::default());
    let free = RefCell::new((0..LANES).collect::<Vec<_>>());
    let keys = futures_util::stream::iter((0_u32..).zip(names));
    let done = keys.map(|(key, name)| {
        let (client, recorder, free) = (&client, &recorder, &free);
        let (record, request) = request(key);
        async move {
            let lane = free.borrow_mut().pop().unwrap_or(0);
            let deadline = Instant::now() + REPEAT_LIMIT;
            let answer = loop {
                let mut attempt = Record { lane, start: clock::now(), ..record };
                let answer = client.send(lane, name, request.clone()).await;
                attempt.end = clock::now();
                attempt.settle(&answer);
                recorder.borrow_mut().keep(attempt);
                match answer {
                    // A value is written once: an unknown fill is not repeated.
                    Err(Failure::Refused(_) | Failure::Elsewhere) if Instant::now() < deadline => {
                        sleep(Duration::from_millis(20)).await;
                    }
                    answer => break answer,
                }
            };
            free.borrow_mut().push(lane);
            match answer {
                Ok(Answer::Written(_) | Answer::Read(_)) => Ok(()),
                other => Err(format!("{name}: {other:?}")),
            }
        }
    });
    let results: Vec<Result<(), String>> = done.buffer_unordered(LANES as usize).collect().await;
    results.into_iter().collect::<Result<(), String>>()?;
    Ok(recorder.into_inner())
}

/// Why the members' states were not seen to be equal.
pub(super) enum Unequal {
    /// They differ.
    Differ(String),
    /// A member did not tell its state, which proves nothing.
    Unknown(String),
}

/// Waits until all members have the same state.
pub(super) async fn equal_states<C: Client>(config: &StoreConfig) -> Result<(), Unequal> {
    let client = C::connect(config, 1).await.map_err(Unequal::Unknown)?;
    let deadline = Instant::now() + EQUAL_LIMIT;
    loop {
        let states = client.states().await;
        match &states {
            Ok(states) if states.windows(2).all(|pair| pair[0] == pair[1]) => return Ok(()),
            _ if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
            Ok(states) => {
                let text = format!("after {EQUAL_LIMIT:?} the members still differ: {states:?}");
                return Err(Unequal::Differ(text));
            }
            Err(reason) => {
                return Err(Unequal::Unknown(format!("a member's state is not known: {reason}")));
            }
        }
    }
}
