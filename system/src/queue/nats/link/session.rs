//! One TCP connection for publishing, with an inbox of its own for the acknowledgements.

use std::sync::Arc;

use async_nats::{Client, Event, HeaderMap, PublishError, Subject, Subscriber};
use bytes::Bytes;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::queue::QueueError;
use crate::queue::nats::NatsConfig;
use crate::queue::nats::connect::{chain, connect_once, failed};

#[derive(Debug)]
pub(super) struct Session {
    /// Counted from 1 within a link.
    pub(super) number: u64,
    pub(super) client: Client,
    /// Cancelled when the connection breaks.
    pub(super) broken: CancellationToken,
    subject: Subject,
    /// Reply subjects by slot, built once.
    replies: Box<[Subject]>,
    /// Length of a reply subject before the slot's number.
    prefix: usize,
}

#[derive(Deserialize)]
struct Probe {
    error: Option<ProbeError>,
}

#[derive(Deserialize)]
struct ProbeError {
    description: Option<String>,
}

impl Session {
    /// Connects, listens for acknowledgements, and makes sure that the stream answers.
    pub(super) async fn open(
        config: &NatsConfig,
        name: &str,
        number: u64,
    ) -> Result<(Arc<Self>, Subscriber), QueueError> {
        let broken = CancellationToken::new();
        let on_break = broken.clone();
        let on_event = move |event: &Event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                on_break.cancel();
            }
        };
        // Twice the window: each message gets at most one answer in a session, so nothing ever waits here.
        let capacity = config.max_in_flight * 2 + 64;
        let client = connect_once(config, name, capacity, Arc::new(on_event)).await?;
        let inbox = client.new_inbox();
        let acks = client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| failed(&format!("listening for acknowledgements: {}", chain(&error))))?;
        probe(&client, &config.stream).await?;
        let replies =
            (0..config.max_in_flight).map(|slot| Subject::from(format!("{inbox}.{slot}"))).collect();
        let session = Self {
            number,
            client,
            broken,
            subject: Subject::from(config.subject.as_str()),
            replies,
            prefix: inbox.len() + 1,
        };
        Ok((Arc::new(session), acks))
    }

    pub(super) async fn send(
        &self,
        slot: usize,
        payload: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<(), PublishError> {
        let (subject, reply) = (self.subject.clone(), self.replies[slot].clone());
        match headers {
            None => self.client.publish_with_reply(subject, reply, payload).await,
            Some(headers) => {
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        }
    }

    /// The slot that an answer on `subject` is for.
    pub(super) fn slot_of(&self, subject: &str) -> Option<usize> {
        subject.get(self.prefix..)?.parse().ok()
    }
}

/// After a restart the server takes connections before it takes messages for its streams.
async fn probe(client: &Client, stream: &str) -> Result<(), QueueError> {
    let answer = client
        .request(format!("$JS.API.STREAM.INFO.{stream}"), Bytes::new())
        .await
        .map_err(|error| failed(&format!("stream `{stream}` does not answer: {}", chain(&error))))?;
    match serde_json::from_slice::<Probe>(&answer.payload) {
        Ok(Probe { error: None }) => Ok(()),
        Ok(Probe { error: Some(error) }) => Err(failed(&format!(
            "stream `{stream}`: {}",
            error.description.unwrap_or_else(|| "unspecified error".to_owned())
        ))),
        Err(error) => Err(failed(&format!("stream `{stream}` gave no valid answer: {error}"))),
    }
}
