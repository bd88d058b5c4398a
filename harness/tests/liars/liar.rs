//! A queue that lies, and counts its lies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use queuebench::clock;
use queuebench::subject::null::{Null, NullPublisher, NullSubscriber};
use queuebench_system::message::Message;
use queuebench_system::queue::{
    Completions, DeliveryPromise, Depth, Durability, Outcome, Promise, PublishError, Publisher, Queue,
    QueueError, Statistics, Submitted, SubscribeOptions, Token,
};
use tokio::sync::Mutex;

/// What it lies about. `every` counts messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None: the control.
    Honest,
    /// Acknowledges and drops.
    Lose { every: u64 },
    /// Delivers twice.
    Duplicate { every: u64 },
    /// Delivers after the next message.
    Reorder { every: u64 },
    /// Flips a bit.
    Corrupt { every: u64 },
    /// Delivers a message of its own making beside the real one.
    Stray { every: u64 },
    /// Refuses and delivers all the same.
    Resurrect { every: u64 },
    /// Acknowledges before it has anything: the last `held` messages never leave its memory.
    AcknowledgeEarly { held: usize },
    /// Answers nothing in the first part of every period.
    Stall { period: Duration, length: Duration },
}

/// A queue over the null subject that promises what an honest broker promises.
pub(crate) struct Liar {
    inner: Null,
    lie: Lie,
    told: Arc<AtomicU64>,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Self {
        Self { inner: Null::default(), lie, told: Arc::default() }
    }

    /// How many lies it has told.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
pub(crate) struct LiarPublisher {
    inner: NullPublisher,
    lie: Lie,
    told: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    held: Arc<Mutex<VecDeque<Message>>>,
    /// Accepted and not yet answered.
    open: Arc<AtomicU64>,
    answers: Option<std::sync::mpsc::Sender<Token>>,
}

impl Queue for Liar {
    type Publisher = LiarPublisher;
    type Subscriber = NullSubscriber;

    fn backend(&self) -> &'static str {
        "liar"
    }

    fn promise(&self) -> Promise {
        Promise {
            delivery: DeliveryPromise::ExactlyOnce,
            ordered_per_key: true,
            ordered_among_consumers: true,
            durability: Durability::ProcessCrash,
        }
    }

    async fn publisher(&self, completions: Arc<dyn Completions>) -> Result<LiarPublisher, QueueError> {
        let open = Arc::new(AtomicU64::new(0));
        let answers = match self.lie {
            Lie::Stall { period, length } => {
                Some(stalling(period, length, Arc::clone(&open), Arc::clone(&completions)))
            }
            _ => None,
        };
        Ok(LiarPublisher {
            inner: self.inner.publisher(completions).await?,
            lie: self.lie,
            told: Arc::clone(&self.told),
            seen: Arc::default(),
            held: Arc::default(),
            open,
            answers,
        })
    }

    async fn subscriber(&self, options: SubscribeOptions) -> Result<NullSubscriber, QueueError> {
        self.inner.subscriber(options).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.inner.depth().await
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    async fn effective_settings(&self) -> Result<BTreeMap<String, String>, QueueError> {
        Ok(BTreeMap::new())
    }

    async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        self.inner.close(deadline).await
    }

    async fn remove(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A thread that answers, except in the first `length` of every `period`. It ends with the last sender.
fn stalling(
    period: Duration,
    length: Duration,
    open: Arc<AtomicU64>,
    completions: Arc<dyn Completions>,
) -> std::sync::mpsc::Sender<Token> {
    let (sender, receiver) = std::sync::mpsc::channel::<Token>();
    let origin = clock::now();
    let ns = |span: Duration| u64::try_from(span.as_nanos()).expect("a test does not last centuries");
    let (period, length) = (ns(period), ns(length));
    std::thread::spawn(move || {
        clock::sharpen_this_thread();
        for token in receiver {
            let now = clock::now();
            let within = (now - origin) % period;
            if within < length {
                clock::sleep_until(now - within + length, clock::Pacing::Sleep, || false);
            }
            completions.complete(token, Outcome::Acknowledged);
            open.fetch_sub(1, Ordering::SeqCst);
        }
    });
    sender
}

impl LiarPublisher {
    async fn forward(&self, message: Message) -> Result<(), PublishError> {
        let _ = self.inner.publish(message, Token(0)).await?;
        Ok(())
    }

    fn lies(&self, every: u64) -> bool {
        let lies = self.seen.fetch_add(1, Ordering::SeqCst) % every == every - 1;
        self.told.fetch_add(u64::from(lies), Ordering::SeqCst);
        lies
    }
}

impl Publisher for LiarPublisher {
    async fn publish(&self, message: Message, token: Token) -> Result<Submitted, PublishError> {
        match self.lie {
            Lie::Honest => self.forward(message).await?,
            Lie::Lose { every } => {
                if !self.lies(every) {
                    self.forward(message).await?;
                }
            }
            Lie::Duplicate { every } => {
                if self.lies(every) {
                    self.forward(message.clone()).await?;
                }
                self.forward(message).await?;
            }
            Lie::Reorder { every } => {
                let mut held = self.held.lock().await;
                if held.is_empty() && self.lies(every) {
                    held.push_back(message);
                } else {
                    self.forward(message).await?;
                    if let Some(late) = held.pop_front() {
                        self.forward(late).await?;
                    }
                }
            }
            Lie::Corrupt { every } => {
                let message = if self.lies(every) { flipped(message) } else { message };
                self.forward(message).await?;
            }
            Lie::Stray { every } => {
                if self.lies(every) {
                    self.forward(Message::new(Bytes::from_static(b"not yours"))).await?;
                }
                self.forward(message).await?;
            }
            Lie::Resurrect { every } => {
                let lies = self.lies(every);
                self.forward(message).await?;
                if lies {
                    return Err(PublishError::Full);
                }
            }
            Lie::AcknowledgeEarly { held: most } => {
                let mut held = self.held.lock().await;
                held.push_back(message);
                if held.len() > most {
                    let first = held.pop_front().expect("it holds more than none");
                    self.forward(first).await?;
                }
            }
            Lie::Stall { .. } => {
                self.forward(message).await?;
                self.open.fetch_add(1, Ordering::SeqCst);
                let answers = self.answers.as_ref().expect("a stalling liar answers through its thread");
                return match answers.send(token) {
                    Ok(()) => Ok(Submitted::Pending),
                    Err(_) => Err(PublishError::Closed),
                };
            }
        }
        Ok(Submitted::Acknowledged)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut taken = 0;
        while let Some((message, token)) = batch.pop_front() {
            let _ = self.publish(message, token).await?;
            taken += 1;
        }
        Ok(taken)
    }

    async fn flush(&self, deadline: Duration) -> usize {
        let answered = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        };
        let _ = tokio::time::timeout(deadline, answered).await;
        usize::try_from(self.open.load(Ordering::SeqCst)).unwrap_or(usize::MAX)
    }
}

fn flipped(mut message: Message) -> Message {
    let mut payload = BytesMut::from(&message.payload[..]);
    let at = payload.len() / 2;
    payload[at] ^= 1 << (at % 8);
    message.payload = payload.freeze();
    message
}
