//! Connections to peers.
//!
//! A peer is reached at its public URL: a request to [`PATH`] is upgraded to a plain stream of frames, so one
//! port serves clients and peers. Entries go over one ordered connection per peer, pipelined, with answers in
//! order; votes, heartbeats and read indexes share a second, multiplexed one, so that a large batch delays no
//! heartbeat; a snapshot travels over a third and goes on where it broke off. Every connection begins by
//! naming cluster, sender and target, and is refused when one of them is wrong.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::task::AbortOnDropHandle;

use super::{
    codec,
    identity::Identity,
    snapshot::SnapshotFile,
    types::{NodeId, Peer, SnapshotMeta, Types, Vote},
};
use link::Link;
use wire::{Connection, FrameKind, WireError};

pub mod dial;
pub mod link;
pub mod server;
pub mod wire;

/// Where peers knock.
pub const PATH: &str = "/raft/stream";
/// Bytes of a snapshot sent at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How long checking and installing a received snapshot may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// First message about a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotOffer {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: u64,
}

/// How much of it the receiver has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHave {
    pub(crate) bytes: u64,
}

/// Makes one [`PeerClient`] per use of a peer.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) identity: Arc<Identity>,
    pub(crate) dial: dial::Dial,
    /// A peer that answers nothing for this long is treated as unreachable.
    pub(crate) progress_timeout: Duration,
}

/// Talks to one peer.
#[derive(Debug)]
pub(crate) struct PeerClient {
    link: Link,
    progress_timeout: Duration,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> PeerClient {
        let link = Link::new(self.identity.clone(), self.dial.clone(), target, node.url.clone());
        PeerClient { link, progress_timeout: self.progress_timeout }
    }
}

fn unreachable(error: &WireError) -> Unreachable<Types> {
    Unreachable::new(error)
}

impl PeerClient {
    async fn ask<A: DeserializeOwned>(
        &self,
        kind: FrameKind,
        request: Bytes,
        option: &RPCOption,
    ) -> Result<A, RPCError<Types>> {
        let answer = self.link.call(kind, request, option.hard_ttl()).await.map_err(|e| unreachable(&e))?;
        serde_json::from_slice(&answer).map_err(|e| Unreachable::new(&e).into())
    }

    async fn ask_json<A: DeserializeOwned>(
        &self,
        kind: FrameKind,
        request: &impl Serialize,
        option: &RPCOption,
    ) -> Result<A, RPCError<Types>> {
        let request = serde_json::to_vec(request).map_err(|e| Unreachable::new(&e))?;
        self.ask(kind, request.into(), option).await
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotFile>,
    ) -> Result<SnapshotResponse<Types>, WireError> {
        let mut connection = self.link.connect().await?;
        let file = snapshot.snapshot;
        let offer = SnapshotOffer { vote, meta: snapshot.meta, bytes: file.bytes };
        connection.send(FrameKind::SnapshotBegin, 0, &serde_json::to_vec(&offer)?).await?;
        connection.flush().await?;
        let have: SnapshotHave = serde_json::from_slice(&connection.answer(self.progress_timeout).await?)?;
        let mut at = have.bytes;
        while at < file.bytes {
            let length = usize::try_from(file.bytes - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let source = file.file.clone();
            let read = move || {
                let mut chunk = vec![0; length];
                source.read_at(&mut chunk, at).map(|()| chunk)
            };
            let chunk = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
            let sent = connection.send(FrameKind::SnapshotChunk, at, &chunk);
            tokio::time::timeout(self.progress_timeout, sent).await.map_err(|_| WireError::Silent)??;
            at += length as u64;
        }
        connection.send(FrameKind::SnapshotEnd, 0, &[]).await?;
        connection.flush().await?;
        Ok(serde_json::from_slice(&connection.answer(INSTALL_TIMEOUT).await?)?)
    }
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut request = Vec::new();
        codec::put_append(&mut request, &rpc).map_err(|e| Unreachable::new(&e))?;
        self.ask(FrameKind::Heartbeat, request.into(), &option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let silence = self.progress_timeout;
        Box::pin(async move {
            let connection = self.link.connect().await.map_err(|e| unreachable(&e))?;
            let (reader, writer) = connection.split();
            let sent = Arc::new(AtomicU64::new(0));
            let sender = AbortOnDropHandle::new(tokio::spawn(send_appends(input, writer, sent.clone())));
            let answers = Answers { reader, sender, sent, received: 0, silence };
            let stream = futures_util::stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                match answers.next().await {
                    Ok(None) => None,
                    Ok(Some(answer)) => Some((Ok(answer), Some(answers))),
                    Err(error) => Some((Err(unreachable(&error).into()), None)),
                }
            });
            Ok(stream.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_json(FrameKind::Vote, &rpc, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_json(FrameKind::PreVote, &rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(|e| unreachable(&e).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask_json(FrameKind::Transfer, &req, &option).await
    }
}

/// Sends requests as they come; flushes when none is waiting.
async fn send_appends<S>(
    mut input: S,
    mut writer: wire::Sender,
    sent: Arc<AtomicU64>,
) -> Result<(), WireError>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let mut frame = Vec::new();
    let mut next = input.next().await;
    while let Some(request) = next {
        frame.clear();
        codec::put_append(&mut frame, &request).map_err(std::io::Error::from)?;
        sent.fetch_add(1, Ordering::Release);
        writer.send(FrameKind::Append, 0, &frame).await?;
        next = match input.next().now_or_never() {
            Some(ready) => ready,
            None => {
                writer.flush().await?;
                input.next().await
            }
        };
    }
    writer.finish().await
}

/// Answers to appends, in order.
struct Answers {
    reader: wire::Receiver,
    sender: AbortOnDropHandle<Result<(), WireError>>,
    sent: Arc<AtomicU64>,
    received: u64,
    silence: Duration,
}

impl Answers {
    async fn next(&mut self) -> Result<Option<StreamAppendResult<Types>>, WireError> {
        loop {
            let frame = match tokio::time::timeout(self.silence, self.reader.next()).await {
                Ok(frame) => frame?,
                // Silence is a fault only while something waits for an answer.
                Err(_) if self.sent.load(Ordering::Acquire) > self.received => return Err(WireError::Silent),
                Err(_) => continue,
            };
            let Some(frame) = frame else {
                let all = self.sender.is_finished() && self.sent.load(Ordering::Acquire) == self.received;
                return if all { Ok(None) } else { Err(WireError::Closed) };
            };
            self.received += 1;
            return decode_append_answer(frame.payload).map(Some);
        }
    }
}

pub(crate) fn encode_append_answer(answer: &StreamAppendResult<Types>) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(32);
    match answer {
        Ok(matched) => {
            out.push(0);
            codec::put_log_id_option(&mut out, matched.as_ref());
        }
        Err(error) => {
            out.push(1);
            serde_json::to_writer(&mut out, error)?;
        }
    }
    Ok(out)
}

fn decode_append_answer(mut payload: Bytes) -> Result<StreamAppendResult<Types>, WireError> {
    if !payload.has_remaining() {
        return Err(WireError::Closed);
    }
    match payload.get_u8() {
        0 => Ok(Ok(codec::get_log_id_option(&mut payload).map_err(std::io::Error::from)?)),
        _ => Ok(Err(serde_json::from_slice(&payload)?)),
    }
}

impl Connection {
    async fn answer(&mut self, patience: Duration) -> Result<Bytes, WireError> {
        let frame = tokio::time::timeout(patience, self.next()).await.map_err(|_| WireError::Silent)??;
        frame.ok_or(WireError::Closed)?.into_answer()
    }
}
