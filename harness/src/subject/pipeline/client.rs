//! A lean HTTP/1.1 client for load: kept-alive connections, one request at a time on each, written by the
//! thread that publishes and read, stamped and settled on the thread that connected.
//!
//! A request is written straight into the socket, so it is on its way when publishing returns; only what the
//! socket does not take at once is left to the connection's task. When every connection has a request in work,
//! publishing waits for one: that is the client's bound, and in an open phase the wait shows as schedule lag.
//! A connection that breaks, or whose answer is overdue, leaves its request unknown and is made anew.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use queuebench_system::message::Message;
use queuebench_system::queue::{
    Completions, Outcome, PublishError, Publisher, RejectReason, Submitted, Token, UnknownReason,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ids::Ids;
use super::{Counters, PipelineConfig, response};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Between attempts to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How often overdue answers are looked for.
const SWEEP: Duration = Duration::from_millis(100);
/// What the gateway takes: a payload grows by a third, and something stands around it.
const MAX_PAYLOAD_BYTES: usize = 700 << 10;

/// Publishes by posting to the gateway.
#[derive(Clone)]
pub struct PipelinePublisher(Arc<Shared>);

impl std::fmt::Debug for PipelinePublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelinePublisher").field("connections", &self.0.connections.len()).finish()
    }
}

/// What a client is given.
pub(super) struct Parts {
    pub(super) counters: Arc<Counters>,
    pub(super) ids: Arc<Ids>,
    pub(super) completions: Arc<dyn Completions>,
    pub(super) stop: CancellationToken,
}

struct Shared {
    address: String,
    /// Everything of a request before the length of its body.
    head: Vec<u8>,
    timeout: Duration,
    connections: Vec<Connection>,
    /// Connections without a request, and as many permits: taken together, given back together.
    idle: ArrayQueue<u32>,
    permits: Semaphore,
    parts: Parts,
}

/// One connection.
#[derive(Default)]
struct Connection {
    state: Mutex<State>,
    /// Something is left to write, or the connection is to be given up.
    bell: Notify,
}

#[derive(Default)]
struct State {
    stream: Option<Arc<TcpStream>>,
    waiting: Option<Waiting>,
    /// The request, and how much of it the socket has taken.
    request: Vec<u8>,
    written: usize,
    overdue: bool,
}

/// A request without an answer.
struct Waiting {
    token: Token,
    /// Of the message's bytes.
    hash: u64,
    sent: Instant,
}

impl PipelinePublisher {
    /// Makes all connections; they live on the runtime this is called on.
    pub(super) async fn connect(config: &PipelineConfig, parts: Parts) -> io::Result<Self> {
        let count = config.connections;
        let head = format!(
            "POST /api/v1/ingest HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: ",
            config.gateway
        );
        let shared = Arc::new(Shared {
            address: config.gateway.clone(),
            head: head.into_bytes(),
            timeout: Duration::from_millis(config.timeout_ms),
            connections: (0..count).map(|_| Connection::default()).collect(),
            idle: ArrayQueue::new(count as usize),
            permits: Semaphore::new(0),
            parts,
        });
        for number in 0..count {
            let stream = open(&shared.address).await?;
            shared.connections[number as usize].state.lock().stream = Some(Arc::new(stream));
            tokio::spawn(serve(Arc::clone(&shared), number));
            shared.give_back(number);
        }
        tokio::spawn(sweep(Arc::clone(&shared)));
        Ok(Self(shared))
    }
}

impl Publisher for PipelinePublisher {
    async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
        let shared = &*self.0;
        if message.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(PublishError::TooLarge { size: message.payload.len(), limit: MAX_PAYLOAD_BYTES });
        }
        let permit = match shared.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => shared.permits.acquire().await.map_err(|_| PublishError::Closed)?,
        };
        if shared.parts.stop.is_cancelled() {
            return Err(PublishError::Closed);
        }
        permit.forget();
        let number = shared.idle.pop().expect("there are as many idle connections as permits");
        Counters::add(&shared.parts.counters.accepted);
        shared.send(number, &message.payload, token);
        Ok(Submitted::Pending)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut taken = 0;
        while let Some((message, token)) = batch.front() {
            match self.publish(message.clone(), *token).await {
                Ok(_) => drop(batch.pop_front()),
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
            taken += 1;
        }
        Ok(taken)
    }

    async fn flush(&self, deadline: Duration) -> usize {
        let shared = &*self.0;
        let count = u32::try_from(shared.connections.len()).unwrap_or(u32::MAX);
        // Holding every permit for a moment means that no request is in work.
        match tokio::time::timeout(deadline, shared.permits.acquire_many(count)).await {
            Ok(_) => 0,
            Err(_) => shared.connections.len() - shared.permits.available_permits(),
        }
    }
}

impl Shared {
    fn send(&self, number: u32, payload: &[u8], token: Token) {
        let connection = &self.connections[number as usize];
        let mut state = connection.state.lock();
        let State { stream, waiting, request, written, overdue } = &mut *state;
        *overdue = false;
        *waiting = Some(Waiting { token, hash: xxhash_rust::xxh3::xxh3_64(payload), sent: Instant::now() });
        self.write_request(request, payload);
        // What cannot be written now, the connection's task writes; a broken one it makes anew.
        *written = stream.as_ref().and_then(|stream| stream.try_write(request).ok()).unwrap_or(0);
        if *written < request.len() {
            drop(state);
            connection.bell.notify_one();
        }
    }

    fn write_request(&self, into: &mut Vec<u8>, payload: &[u8]) {
        const BEFORE: &[u8] = b"{\"source\":\"queuebench\",\"data\":\"";
        const AFTER: &[u8] = b"\"}";
        let text = payload.len().div_ceil(3) * 4;
        into.clear();
        into.extend_from_slice(&self.head);
        // Writing to a vector cannot fail.
        let _ = io::Write::write_fmt(into, format_args!("{}\r\n\r\n", BEFORE.len() + text + AFTER.len()));
        into.extend_from_slice(BEFORE);
        let at = into.len();
        into.resize(at + text, 0);
        let encoded = STANDARD.encode_slice(payload, &mut into[at..]);
        debug_assert_eq!(encoded, Ok(text));
        into.extend_from_slice(AFTER);
    }

    fn give_back(&self, number: u32) {
        self.idle.push(number).expect("there is a place for every connection");
        self.permits.add_permits(1);
    }

    /// Settles the request of a connection, which is then free for another.
    fn settle(&self, number: u32, waiting: &Waiting, outcome: Outcome) {
        let counters = &self.parts.counters;
        Counters::add(match outcome {
            Outcome::Acknowledged => &counters.acknowledged,
            Outcome::Rejected(_) => &counters.rejected,
            Outcome::Unknown(_) => &counters.unknown,
        });
        self.give_back(number);
        self.parts.completions.complete(waiting.token, outcome);
    }

    /// What an answer means, and the id that it names.
    fn read(&self, answer: &response::Response<'_>, waiting: &Waiting) -> Outcome {
        match answer.status {
            200 | 202 => {
                if let Some(id) = response::message_id(answer.body) {
                    self.parts.ids.accepted(id, waiting.hash);
                }
                Outcome::Acknowledged
            }
            413 => Outcome::Rejected(RejectReason::TooLarge),
            // Whoever gave up on a slow client, or on the service behind it, cannot say what became of it.
            408 => Outcome::Unknown(UnknownReason::TimedOut),
            400..=499 => Outcome::Rejected(RejectReason::Refused),
            _ if answer.refused => Outcome::Rejected(RejectReason::Full),
            _ => Outcome::Unknown(UnknownReason::TimedOut),
        }
    }
}

/// Reads the answers of one connection and writes what publishing left over, for as long as the client lives.
async fn serve(shared: Arc<Shared>, number: u32) {
    let stop = shared.parts.stop.clone();
    let serving = async {
        loop {
            let stream = shared.connections[number as usize].state.lock().stream.clone();
            let ended = match stream {
                Some(stream) => answers(&shared, number, &stream).await,
                None => Ok(()),
            };
            let waiting = {
                let mut state = shared.connections[number as usize].state.lock();
                state.stream = None;
                let reason =
                    if state.overdue { UnknownReason::TimedOut } else { UnknownReason::Disconnected };
                state.waiting.take().map(|waiting| (waiting, reason))
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection to the gateway");
            }
            // The request is settled before the connection is there again, so it may be asked for meanwhile;
            // what is then sent on it waits for the connection.
            if let Some((waiting, reason)) = waiting {
                shared.settle(number, &waiting, Outcome::Unknown(reason));
            }
            Counters::add(&shared.parts.counters.reconnects);
            let fresh = loop {
                match open(&shared.address).await {
                    Ok(stream) => break Arc::new(stream),
                    Err(_) => tokio::time::sleep(RECONNECT_PAUSE).await,
                }
            };
            shared.connections[number as usize].state.lock().stream = Some(fresh);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = serving => {}
    }
}

/// Answers of one connection until it ends.
async fn answers(shared: &Shared, number: u32, stream: &TcpStream) -> io::Result<()> {
    let connection = &shared.connections[number as usize];
    let mut buffer = BytesMut::with_capacity(4 << 10);
    loop {
        write_rest(connection, stream).await?;
        tokio::select! {
            readable = stream.readable() => readable?,
            () = connection.bell.notified() => {
                if connection.state.lock().overdue {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                continue;
            }
        }
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let Some(answer) = response::parse(&buffer)? else { continue };
        let waiting = connection.state.lock().waiting.take();
        let waiting = waiting.ok_or_else(|| io::Error::other("an answer to no request"))?;
        let outcome = shared.read(&answer, &waiting);
        let (length, close) = (answer.length, answer.close);
        if length != buffer.len() {
            shared.settle(number, &waiting, outcome);
            return Err(io::Error::other("more than one answer to one request"));
        }
        buffer.clear();
        if close {
            // Not to be used again, so the next request on it must find no stream.
            connection.state.lock().stream = None;
        }
        shared.settle(number, &waiting, outcome);
        if close {
            return Ok(());
        }
    }
}

/// Writes what publishing left over.
async fn write_rest(connection: &Connection, stream: &TcpStream) -> io::Result<()> {
    loop {
        {
            let mut state = connection.state.lock();
            let State { waiting, request, written, .. } = &mut *state;
            if waiting.is_none() || *written >= request.len() {
                return Ok(());
            }
            match stream.try_write(&request[*written..]) {
                Ok(more) => {
                    *written += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        stream.writable().await?;
    }
}

/// Gives up connections whose answer is overdue.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = shared.parts.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for connection in &shared.connections {
            let mut state = connection.state.lock();
            if state.waiting.as_ref().is_some_and(|waiting| waiting.sent.elapsed() >= shared.timeout) {
                state.overdue = true;
                connection.bell.notify_one();
            }
        }
    }
}

async fn open(address: &str) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The body of one `GET`.
pub(crate) async fn get(address: &str, path: &str, limit: Duration) -> io::Result<Vec<u8>> {
    let asking = async {
        let mut stream = open(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = Vec::new();
        stream.take(1 << 20).read_to_end(&mut text).await?;
        let answer = response::parse(&text)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match answer.status {
            200 => Ok(answer.body.to_vec()),
            status => Err(io::Error::other(format!("answered {status}"))),
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
