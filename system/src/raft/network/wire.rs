//! Frames on a byte stream, and how a connection begins.
//!
//! `payload length u32 | kind u8 | id u64 | payload`, little-endian; a payload is at most 80 MiB. TCP's
//! checksum is weak, but entries carry their own from the log's writer on; a frame is not checked again.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use crate::raft::types::NodeId;

const PAYLOAD_BYTES_MAX: usize = 80 << 20;
const HEADER_BYTES: usize = 13;
/// Longest answer to the upgrade request that is read.
const HEAD_BYTES_MAX: u64 = 16 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// Protocol name in the upgrade.
pub(crate) const PROTOCOL: &str = "queuebench-raft/1";

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("connection to a peer failed: {0}")]
    Io(#[from] io::Error),
    /// The peer answered something that does not parse.
    #[error("a peer's message does not parse: {0}")]
    Json(#[from] serde_json::Error),
    /// The peer closed the connection.
    #[error("a peer closed the connection")]
    Closed,
    /// The peer did not answer in time.
    #[error("a peer did not answer in time")]
    Silent,
    /// The peer refused.
    #[error("a peer refused: {0}")]
    Refused(String),
    /// The URL of a peer is not usable.
    #[error("peer url '{0}' is not of the form http://host:port, or https:// where TLS is set up")]
    Url(String),
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    Hello = 1,
    Append = 2,
    Heartbeat = 3,
    Vote = 4,
    PreVote = 5,
    Transfer = 6,
    ReadIndex = 7,
    SnapshotBegin = 8,
    SnapshotChunk = 9,
    SnapshotEnd = 10,
    Answer = 11,
    Refusal = 12,
}

impl FrameKind {
    const ALL: [Self; 12] = [
        Self::Hello,
        Self::Append,
        Self::Heartbeat,
        Self::Vote,
        Self::PreVote,
        Self::Transfer,
        Self::ReadIndex,
        Self::SnapshotBegin,
        Self::SnapshotChunk,
        Self::SnapshotEnd,
        Self::Answer,
        Self::Refusal,
    ];
}

/// One message.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) id: u64,
    pub(crate) payload: Bytes,
}

impl Frame {
    pub(crate) fn into_answer(self) -> Result<Bytes, WireError> {
        match self.kind {
            FrameKind::Answer => Ok(self.payload),
            _ => Err(WireError::Refused(String::from_utf8_lossy(&self.payload).into_owned())),
        }
    }
}

/// First message on every connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Cluster the sender belongs to.
    pub cluster: u64,
    /// The sender.
    pub from: NodeId,
    /// Its name.
    pub name: String,
    /// Random number of its data directory.
    pub incarnation: u64,
    /// Whom it means to talk to.
    pub to: NodeId,
}

/// Answer to a [`Hello`] that was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// Name of the node that answers.
    pub name: String,
    /// Random number of its data directory.
    pub incarnation: u64,
}

/// The sending half.
pub(crate) struct Sender(BufWriter<Box<dyn AsyncWrite + Send + Unpin>>);

/// The receiving half.
pub(crate) struct Receiver {
    source: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
}

/// Both.
pub(crate) struct Connection {
    sender: Sender,
    receiver: Receiver,
}

impl Sender {
    pub(crate) async fn send(&mut self, kind: FrameKind, id: u64, payload: &[u8]) -> Result<(), WireError> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= PAYLOAD_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("a message to a peer is over 80 MiB"))?;
        let mut head = [0; HEADER_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = kind as u8;
        head[5..].copy_from_slice(&id.to_le_bytes());
        self.0.write_all(&head).await?;
        self.0.write_all(payload).await?;
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        Ok(self.0.flush().await?)
    }

    pub(crate) async fn finish(&mut self) -> Result<(), WireError> {
        self.0.flush().await?;
        Ok(self.0.shutdown().await?)
    }
}

impl Receiver {
    /// The next frame; nothing at an orderly end. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(mut head) = self.buffer.get(..HEADER_BYTES) {
                let length = head.get_u32_le() as usize;
                let (tag, id) = (head.get_u8(), head.get_u64_le());
                if length > PAYLOAD_BYTES_MAX {
                    return Err(io::Error::other("a peer's message is over 80 MiB").into());
                }
                if self.buffer.len() >= HEADER_BYTES + length {
                    let kind = FrameKind::ALL.into_iter().find(|kind| *kind as u8 == tag);
                    let kind =
                        kind.ok_or_else(|| io::Error::other(format!("a peer sent a frame of kind {tag}")))?;
                    self.buffer.advance(HEADER_BYTES);
                    let payload = self.buffer.split_to(length).freeze();
                    return Ok(Some(Frame { kind, id, payload }));
                }
                self.buffer.reserve(HEADER_BYTES + length - self.buffer.len());
            } else {
                self.buffer.reserve(BUFFER_BYTES);
            }
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(WireError::Closed) };
            }
        }
    }
}

impl Connection {
    /// Wraps a stream that is past its upgrade.
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (source, sink) = tokio::io::split(io);
        Self::of(Box::new(source), Box::new(sink), BytesMut::new())
    }

    fn of(
        source: Box<dyn AsyncRead + Send + Unpin>,
        sink: Box<dyn AsyncWrite + Send + Unpin>,
        buffer: BytesMut,
    ) -> Self {
        let sender = Sender(BufWriter::with_capacity(BUFFER_BYTES, sink));
        Self { sender, receiver: Receiver { source, buffer } }
    }

    /// Asks the node at the other end of a fresh connection to upgrade it.
    pub(crate) async fn upgrade(
        source: impl AsyncRead + Send + Unpin + 'static,
        mut sink: impl AsyncWrite + Send + Unpin + 'static,
        address: &str,
        header: &str,
    ) -> Result<Self, WireError> {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n{header}content-length: 0\r\n\r\n",
            super::PATH
        );
        sink.write_all(request.as_bytes()).await?;
        sink.flush().await?;
        let mut source = BufReader::new(source);
        let mut head = (&mut source).take(HEAD_BYTES_MAX);
        let mut line = String::new();
        head.read_line(&mut line).await?;
        let status = line.trim_end().to_owned();
        while head
            .read_line({
                line.clear();
                &mut line
            })
            .await?
            > 2
        {}
        if !status.contains(" 101") {
            return Err(WireError::Refused(format!("{address} answered '{status}'")));
        }
        let buffer = BytesMut::from(source.buffer());
        Ok(Self::of(Box::new(source.into_inner()), Box::new(sink), buffer))
    }

    pub(crate) async fn send(&mut self, kind: FrameKind, id: u64, payload: &[u8]) -> Result<(), WireError> {
        self.sender.send(kind, id, payload).await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        self.sender.flush().await
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        self.receiver.next().await
    }

    pub(crate) fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }
}
