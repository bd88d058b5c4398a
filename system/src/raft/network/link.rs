//! One peer: opening connections to it, and a multiplexed one for short questions.
//!
//! At most 256 questions are under way; more are refused at once. A connection that fails answers all its
//! questions with the failure and is replaced at the next question.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::dial::Dial;
use super::wire::{Connection, FrameKind, Hello, Receiver, Sender, Welcome, WireError};
use crate::raft::{identity::Identity, types::NodeId};

const QUESTIONS_MAX: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, WireError>>>>>;

struct Question {
    kind: FrameKind,
    id: u64,
    payload: Bytes,
}

struct Multiplexed {
    questions: mpsc::Sender<Question>,
    waiting: Waiting,
    reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

/// A peer by number and address.
pub(crate) struct Link {
    identity: Arc<Identity>,
    dial: Dial,
    target: NodeId,
    url: String,
    multiplexed: tokio::sync::Mutex<Option<Arc<Multiplexed>>>,
    next_id: AtomicU64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.target).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(identity: Arc<Identity>, dial: Dial, target: NodeId, url: String) -> Self {
        let multiplexed = tokio::sync::Mutex::new(None);
        Self { identity, dial, target, url, multiplexed, next_id: AtomicU64::new(1) }
    }

    /// A new connection, past its greeting.
    pub(crate) async fn connect(&self) -> Result<Connection, WireError> {
        let greet = async {
            let mut connection = self.dial.open(self.identity.route(&self.url)).await?;
            let hello = self.identity.hello(self.target)?;
            connection.send(FrameKind::Hello, 0, &serde_json::to_vec(&hello)?).await?;
            connection.flush().await?;
            let answer = connection.next().await?.ok_or(WireError::Closed)?.into_answer()?;
            let welcome: Welcome = serde_json::from_slice(&answer)?;
            let met = Hello {
                cluster: hello.cluster,
                from: self.target,
                to: hello.from,
                name: welcome.name,
                incarnation: welcome.incarnation,
            };
            self.identity.meet(&met)?;
            Ok(connection)
        };
        let greeted = tokio::time::timeout(CONNECT_TIMEOUT, greet).await.map_err(|_| WireError::Silent)?;
        if let Err(WireError::Refused(reason)) = &greeted {
            tracing::error!(peer = self.target, url = %self.url, %reason, "a peer refuses this node");
        }
        greeted
    }

    async fn multiplexed(&self) -> Result<Arc<Multiplexed>, WireError> {
        let mut current = self.multiplexed.lock().await;
        if let Some(open) = current.as_ref().filter(|open| !open.reader.is_finished()) {
            return Ok(open.clone());
        }
        let (receiver, sender) = self.connect().await?.split();
        let waiting = Waiting::default();
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let opened = Arc::new(Multiplexed {
            questions,
            waiting: waiting.clone(),
            reader: AbortOnDropHandle::new(tokio::spawn(read(receiver, waiting))),
            _writer: AbortOnDropHandle::new(tokio::spawn(write(sender, asked))),
        });
        *current = Some(opened.clone());
        Ok(opened)
    }

    /// Asks, and waits for the answer at most `patience`.
    pub(crate) async fn call(
        &self,
        kind: FrameKind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Bytes, WireError> {
        let ask = async {
            let open = self.multiplexed().await?;
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            open.waiting.lock().insert(id, answer);
            let _forget = Forget { waiting: open.waiting.clone(), id };
            // The reader may have ended, and answered everyone, just before this question was noted.
            if open.reader.is_finished() {
                return Err(WireError::Closed);
            }
            let question = Question { kind, id, payload };
            open.questions.try_send(question).map_err(|_| WireError::Silent)?;
            answered.await.unwrap_or(Err(WireError::Closed))
        };
        tokio::time::timeout(patience, ask).await.unwrap_or(Err(WireError::Silent))
    }
}

struct Forget {
    waiting: Waiting,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

async fn write(mut sender: Sender, mut asked: mpsc::Receiver<Question>) {
    while let Some(question) = asked.recv().await {
        let mut next = Some(question);
        while let Some(question) = next {
            if sender.send(question.kind, question.id, &question.payload).await.is_err() {
                return;
            }
            next = asked.try_recv().ok();
        }
        if sender.flush().await.is_err() {
            return;
        }
    }
}

async fn read(mut receiver: Receiver, waiting: Waiting) {
    while let Ok(Some(frame)) = receiver.next().await {
        let asker = waiting.lock().remove(&frame.id);
        if let Some(asker) = asker {
            let _ = asker.send(frame.into_answer());
        }
    }
    // Dropping the senders tells all who wait.
    waiting.lock().clear();
}
