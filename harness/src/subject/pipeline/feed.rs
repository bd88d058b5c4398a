//! What was processed, as the processors' feeds tell it.
//!
//! One connection to each processor, read on the consumer's own thread: a batch is what has arrived. A feed
//! that ends while it is wanted is an error, since a gap could not be seen otherwise.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BytesMut};
use queuebench_system::message::{Message, MessageId};
use queuebench_system::queue::{AckError, Delivery, SubscribeError, Subscriber};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ids::Ids;
use super::{Counters, PipelineConfig, response};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What the standard processing puts before the payload.
const PREFIX: &[u8] = b"PROCESSED_";
/// The largest frame; a payload in base64 and its head.
const MAX_FRAME_BYTES: usize = 16 << 20;
/// Room for one read.
const READ_BYTES: usize = 64 << 10;

/// Receives what was processed.
#[derive(Debug)]
pub struct PipelineSubscriber {
    backend: &'static str,
    feeds: Vec<Feed>,
    /// The feed that is looked at first, so that none is starved.
    next: usize,
    counters: Arc<Counters>,
    ids: Arc<Ids>,
    stop: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Debug)]
struct Feed {
    stream: TcpStream,
    buffer: BytesMut,
}

/// One processed message.
#[derive(Debug)]
pub struct PipelineDelivery(Message);

impl PipelineSubscriber {
    pub(super) async fn connect(
        config: &PipelineConfig,
        counters: Arc<Counters>,
        ids: Arc<Ids>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let mut feeds = Vec::with_capacity(config.feeds.len());
        for address in &config.feeds {
            let feed = tokio::time::timeout(CONNECT_LIMIT, Feed::open(address)).await;
            feeds.push(feed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??);
        }
        let backend = config.name();
        Ok(Self { backend, feeds, next: 0, counters, ids, stop: Box::pin(stop.cancelled_owned()) })
    }

    /// Frames that are whole, from all feeds; reads what has arrived first. Cancel-safe: what was read stays
    /// in the feeds' buffers until it is taken.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        into: &mut Vec<PipelineDelivery>,
    ) -> Poll<Result<usize, SubscribeError>> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(SubscribeError::Closed));
        }
        let before = into.len();
        self.next = (self.next + 1) % self.feeds.len();
        for offset in 0..self.feeds.len() {
            let at = (self.next + offset) % self.feeds.len();
            loop {
                while into.len() - before < max {
                    match self.feeds[at].next() {
                        Ok(Some(frame)) => into.extend(self.deliver(&frame)),
                        Ok(None) => break,
                        Err(error) => return Poll::Ready(Err(self.failed(&error))),
                    }
                }
                if into.len() - before >= max {
                    break;
                }
                match self.feeds[at].poll_read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failed(&error))),
                    Poll::Pending => break,
                }
            }
        }
        match into.len() - before {
            0 => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn deliver(&self, frame: &[u8]) -> Option<PipelineDelivery> {
        let (&[success, id_length], rest) = frame.split_first_chunk::<2>()?;
        let (id, result) = rest.split_at_checked(id_length.into())?;
        Counters::add(&self.counters.delivered);
        if success == 0 {
            // A dead letter: not processed, which the ledger will count as lost.
            Counters::add(&self.counters.failed);
            return None;
        }
        // What is not as it should be goes on as it is: the checksum in it will not fit.
        let payload = result
            .strip_prefix(PREFIX)
            .and_then(|text| STANDARD.decode(text).ok())
            .unwrap_or_else(|| result.to_vec());
        let id = String::from_utf8_lossy(id).into_owned();
        if let Some(number) = response::id_of(&id) {
            self.ids.processed(number, xxhash_rust::xxh3::xxh3_64(&payload));
        }
        Some(PipelineDelivery(Message::new(payload).with_id(MessageId::from(id))))
    }

    fn failed(&self, error: &io::Error) -> SubscribeError {
        SubscribeError::Client { backend: self.backend, reason: format!("the feed of results: {error}") }
    }
}

impl Feed {
    async fn open(address: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /internal/v1/results HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
             upgrade: queuebench-results/1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101 ") {
            let line = buffer[..].split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(io::Error::other(format!("{address}: {}", String::from_utf8_lossy(line))));
        }
        buffer.advance(end);
        Ok(Self { stream, buffer })
    }

    /// One whole frame off the front.
    fn next(&mut self) -> io::Result<Option<BytesMut>> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame over the limit"));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let mut room = ReadBuf::new(&mut self.buffer[length..]);
        let polled = std::pin::Pin::new(&mut self.stream).poll_read(cx, &mut room);
        let read = room.filled().len();
        self.buffer.truncate(length + read);
        match polled {
            Poll::Ready(Ok(())) if read == 0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            other => other,
        }
    }
}

impl Subscriber for PipelineSubscriber {
    type Delivery = PipelineDelivery;

    async fn recv_batch(
        &mut self,
        max: usize,
        into: &mut Vec<PipelineDelivery>,
    ) -> Result<usize, SubscribeError> {
        std::future::poll_fn(|cx| self.poll_batch(cx, max, into)).await
    }
}

/// What was processed is processed: there is nothing to answer.
impl Delivery for PipelineDelivery {
    fn message(&self) -> &Message {
        &self.0
    }

    fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.0)
    }

    fn attempt(&self) -> Option<u32> {
        None
    }

    async fn ack(self) -> Result<(), AckError> {
        Ok(())
    }

    async fn nack(self, _delay: Duration) -> Result<(), AckError> {
        Ok(())
    }
}
