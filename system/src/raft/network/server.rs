//! The receiving side of peer connections.
//!
//! One task per connection. Appends are handed to the core in order and answered in order, up to 64 under
//! way; questions are answered as they come, at most 256 under way per connection. A connection that breaks a
//! rule is closed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::{Raft, type_config::alias::SnapshotOf};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    SnapshotHave, SnapshotOffer, encode_append_answer,
    wire::{Connection, Frame, FrameKind, Hello, Sender, Welcome, WireError},
};
use crate::raft::{
    codec,
    identity::Identity,
    machine::{Machine, Replica},
    node::reads::ReadIndexes,
    snapshot::{PartialSnapshot, SnapshotStore},
    types::Types,
};

const APPENDS_MAX: usize = 64;
const QUESTIONS_MAX: usize = 256;
const ANSWERS_MAX: usize = 1024;

type Answers = mpsc::Sender<(FrameKind, u64, Bytes)>;

/// What peers talk to.
pub(crate) struct PeerServer<M: Machine> {
    pub(crate) raft: Raft<Types, Replica<M>>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) reads: ReadIndexes,
    pub(crate) stop: CancellationToken,
}

impl<M: Machine> Clone for PeerServer<M> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            identity: self.identity.clone(),
            snapshots: self.snapshots.clone(),
            reads: self.reads.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<M: Machine> PeerServer<M> {
    /// Serves one upgraded connection to its end.
    pub(crate) async fn serve(self, connection: Connection) {
        let stop = self.stop.clone();
        let served = tokio::select! {
            () = stop.cancelled() => return,
            served = self.converse(connection) => served,
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a peer connection ended");
        }
    }

    async fn converse(self, mut connection: Connection) -> Result<(), WireError> {
        let first = connection.next().await?.ok_or(WireError::Closed)?;
        let hello: Hello = serde_json::from_slice(&first.payload)?;
        if let Err(refusal) = self.identity.accept(&hello) {
            tracing::warn!(peer = hello.from, name = hello.name, %refusal, "a peer was refused");
            connection.send(FrameKind::Refusal, 0, refusal.to_string().as_bytes()).await?;
            return connection.flush().await;
        }
        let welcome = Welcome { name: self.identity.name(), incarnation: self.identity.incarnation() };
        connection.send(FrameKind::Answer, 0, &serde_json::to_vec(&welcome)?).await?;
        connection.flush().await?;

        let (mut receiver, sender) = connection.split();
        let (answers, queued) = mpsc::channel(ANSWERS_MAX);
        let mut writer = AbortOnDropHandle::new(tokio::spawn(write_answers(sender, queued)));
        let mut conversation = Conversation {
            server: self,
            answers,
            appends: None,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            snapshot: None,
        };
        let result = loop {
            tokio::select! {
                ended = &mut writer => break ended.map_err(|e| WireError::Io(std::io::Error::other(e)))?,
                frame = receiver.next() => match frame {
                    Ok(Some(frame)) => if let Err(error) = conversation.take(frame).await { break Err(error) },
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
            }
        };
        // The core still owes answers to what it took; they go out before the connection closes.
        conversation.finish().await;
        if !writer.is_finished() {
            let _ = writer.await;
        }
        result
    }
}

async fn write_answers(
    mut sender: Sender,
    mut queued: mpsc::Receiver<(FrameKind, u64, Bytes)>,
) -> Result<(), WireError> {
    while let Some(answer) = queued.recv().await {
        let mut next = Some(answer);
        while let Some((kind, id, payload)) = next {
            sender.send(kind, id, &payload).await?;
            next = queued.try_recv().ok();
        }
        sender.flush().await?;
    }
    sender.finish().await
}

struct Appends {
    requests: mpsc::Sender<codec::AppendRequest>,
    task: AbortOnDropHandle<()>,
}

struct Conversation<M: Machine> {
    server: PeerServer<M>,
    answers: Answers,
    appends: Option<Appends>,
    questions: Arc<Semaphore>,
    snapshot: Option<(SnapshotOffer, PartialSnapshot)>,
}

impl<M: Machine> Conversation<M> {
    async fn take(&mut self, frame: Frame) -> Result<(), WireError> {
        match frame.kind {
            FrameKind::Append => self.append(frame.payload).await,
            FrameKind::SnapshotBegin | FrameKind::SnapshotChunk | FrameKind::SnapshotEnd => {
                self.snapshot(frame).await
            }
            _ => {
                let Ok(permit) = self.questions.clone().acquire_owned().await else {
                    return Err(WireError::Closed);
                };
                let (server, answers) = (self.server.clone(), self.answers.clone());
                // Bounded by the permits; ends with its answer, which every branch gives in bounded time.
                tokio::spawn(async move {
                    let _permit = permit;
                    let answer = match server.answer(&frame).await {
                        Ok(answer) => (FrameKind::Answer, frame.id, answer),
                        Err(error) => (FrameKind::Refusal, frame.id, Bytes::from(error.to_string())),
                    };
                    let _ = answers.send(answer).await;
                });
                Ok(())
            }
        }
    }

    async fn append(&mut self, payload: Bytes) -> Result<(), WireError> {
        let request = codec::get_append(payload).map_err(std::io::Error::from)?;
        let appends = self.appends.get_or_insert_with(|| {
            let (requests, taken) = mpsc::channel(APPENDS_MAX);
            let results = self.server.raft.stream_append(ReceiverStream::new(taken));
            let answers = self.answers.clone();
            let task = AbortOnDropHandle::new(tokio::spawn(async move {
                let mut results = std::pin::pin!(results);
                while let Some(result) = results.next().await {
                    let Ok(Ok(answer)) = result.map(|answer| encode_append_answer(&answer)) else { return };
                    if answers.send((FrameKind::Answer, 0, answer.into())).await.is_err() {
                        return;
                    }
                }
            }));
            Appends { requests, task }
        });
        // The core ends the stream after a conflict; the leader opens another one.
        appends.requests.send(request).await.map_err(|_| WireError::Closed)
    }

    async fn snapshot(&mut self, frame: Frame) -> Result<(), WireError> {
        match (frame.kind, self.snapshot.take()) {
            (FrameKind::SnapshotBegin, _) => {
                let offer: SnapshotOffer = serde_json::from_slice(&frame.payload)?;
                let partial = self.server.snapshots.partial(offer.meta.last_log_id.as_ref(), offer.bytes)?;
                let have = json(&SnapshotHave { bytes: partial.have() })?;
                self.snapshot = Some((offer, partial));
                self.answers.send((FrameKind::Answer, frame.id, have)).await.map_err(|_| WireError::Closed)
            }
            (FrameKind::SnapshotChunk, Some((offer, mut partial))) if frame.id == partial.have() => {
                let written =
                    tokio::task::spawn_blocking(move || partial.push(&frame.payload).map(|()| partial));
                self.snapshot = Some((offer, written.await.map_err(std::io::Error::other)??));
                Ok(())
            }
            (FrameKind::SnapshotEnd, Some((offer, partial))) => {
                let finished = tokio::task::spawn_blocking(move || partial.finish());
                let snapshot = finished.await.map_err(std::io::Error::other)??;
                let snapshot = SnapshotOf::<Types, _> { meta: offer.meta, snapshot };
                let installed = self.server.raft.install_full_snapshot(offer.vote, snapshot).await;
                let answer = json(&installed.map_err(|e| WireError::Refused(e.to_string()))?)?;
                metrics::counter!("raft_snapshots_received_total").increment(1);
                self.answers.send((FrameKind::Answer, frame.id, answer)).await.map_err(|_| WireError::Closed)
            }
            _ => Err(WireError::Refused("a part of a snapshot out of order".into())),
        }
    }

    async fn finish(self) {
        if let Some(Appends { requests, task }) = self.appends {
            drop(requests);
            let _ = task.await;
        }
    }
}

impl<M: Machine> PeerServer<M> {
    async fn answer(&self, frame: &Frame) -> Result<Bytes, WireError> {
        let refused = |error: &dyn std::fmt::Display| WireError::Refused(error.to_string());
        match frame.kind {
            FrameKind::Heartbeat => {
                let request = codec::get_append(frame.payload.clone()).map_err(std::io::Error::from)?;
                json(&self.raft.append_entries(request).await.map_err(|e| refused(&e))?)
            }
            FrameKind::Vote => {
                let request = serde_json::from_slice(&frame.payload)?;
                json(&self.raft.vote(request).await.map_err(|e| refused(&e))?)
            }
            FrameKind::PreVote => {
                let request = serde_json::from_slice(&frame.payload)?;
                json(&self.raft.pre_vote(request).await.map_err(|e| refused(&e))?)
            }
            FrameKind::Transfer => {
                let request = serde_json::from_slice(&frame.payload)?;
                json(&self.raft.handle_transfer_leader(request).await.map_err(|e| refused(&e))?)
            }
            FrameKind::ReadIndex => json(&self.reads.on_leader().await.map_err(|e| refused(&e))?),
            _ => Err(WireError::Refused("a frame that is no question".into())),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, WireError> {
    Ok(serde_json::to_vec(value)?.into())
}
