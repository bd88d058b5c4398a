//! Publishing to all children at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use tokio_util::sync::CancellationToken;

use super::strategy::{ChildSet, Strategy};
use super::table::Table;
use super::{BACKEND, Inner};
use crate::message::{Message, MessageId};
use crate::queue::{
    Completions, Outcome, PublishError, Publisher, Queue, QueueError, RejectReason, Submitted, Token,
    UnknownReason,
};

/// How often waiting messages are looked at for children that do not answer.
const TURN: Duration = Duration::from_millis(100);

/// Publishes to every child of a [`Composite`](super::Composite).
///
/// Two or three children cost no allocation of its own per message; more cost one.
pub struct CompositePublisher<Q: Queue>(Arc<Core<Q>>);

struct Core<Q: Queue> {
    inner: Arc<Inner<Q>>,
    children: Vec<Q::Publisher>,
    table: Arc<Table>,
}

impl<Q: Queue> Clone for CompositePublisher<Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q: Queue> fmt::Debug for CompositePublisher<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositePublisher").field("children", &self.0.children.len()).finish_non_exhaustive()
    }
}

/// One child's answers on their way into the table.
struct ChildSink {
    table: Arc<Table>,
    child: usize,
}

impl Completions for ChildSink {
    fn complete(&self, token: Token, outcome: Outcome) {
        self.table.answer(token, self.child, outcome);
    }
}

/// Frees the place of a message whose publishing was dropped half-way.
struct Handing<'a> {
    table: &'a Table,
    place: Option<Token>,
}

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.table.give_up(place);
        }
    }
}

impl<Q: Queue> CompositePublisher<Q> {
    pub(super) async fn open(
        inner: &Arc<Inner<Q>>,
        completions: Arc<dyn Completions>,
    ) -> Result<Self, QueueError> {
        let table = Arc::new(Table::new(inner.settings.max_in_flight, inner.common.clone(), completions));
        let opening = inner.children.iter().enumerate().map(|(child, (_, queue))| {
            queue.publisher(Arc::new(ChildSink { table: Arc::clone(&table), child }))
        });
        let children = join_all(opening).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        inner.register(&table);
        let limit = inner.settings.answer_timeout.as_millis().div_ceil(TURN.as_millis());
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        inner.tasks.spawn(sweep(Arc::downgrade(&table), limit, inner.stop.child_token()));
        Ok(Self(Arc::new(Core { inner: Arc::clone(inner), children, table })))
    }

    /// Hands `message` to one child. The error, if the child did not accept it.
    async fn hand(
        &self,
        child: usize,
        tried: ChildSet,
        message: Message,
        place: Token,
    ) -> Option<PublishError> {
        if !tried.contains(child) {
            return None;
        }
        let core = &*self.0;
        let publishing = core.children[child].publish(message, place);
        // Where all children are needed, one that is full holds up the publisher as it would alone.
        // Elsewhere it must not hold up the others.
        let submitted = match core.inner.common.strategy {
            Strategy::FailFast => publishing.await,
            Strategy::BestEffort | Strategy::Quorum => {
                match tokio::time::timeout(core.inner.settings.answer_timeout, publishing).await {
                    Ok(submitted) => submitted,
                    Err(_) => {
                        core.table.answer(place, child, Outcome::Unknown(UnknownReason::TimedOut));
                        return None;
                    }
                }
            }
        };
        let (outcome, error) = match submitted {
            Ok(Submitted::Pending) => return None,
            Ok(Submitted::Acknowledged) => (Outcome::Acknowledged, None),
            Err(error) => {
                let reason = match error {
                    PublishError::Full => RejectReason::Full,
                    PublishError::TooLarge { .. } => RejectReason::TooLarge,
                    PublishError::Invalid { .. } => RejectReason::Refused,
                    PublishError::Closed | PublishError::Client { .. } => {
                        core.inner.common.health.down(child);
                        RejectReason::NotSent
                    }
                };
                (Outcome::Rejected(reason), Some(error))
            }
        };
        core.table.answer(place, child, outcome);
        error
    }

    /// Hands `message` to all children of the plan; the first error if every child refused or was left out.
    async fn hand_to_all(&self, tried: ChildSet, message: Message, place: Token) -> Option<PublishError> {
        let count = self.0.children.len();
        let first_if_all = |errors: &mut dyn Iterator<Item = Option<PublishError>>| {
            let mut first = None;
            for (child, error) in errors.enumerate() {
                if tried.contains(child) {
                    first = first.or(Some(error?));
                }
            }
            first
        };
        match count {
            2 => {
                let (one, two) =
                    join(self.hand(0, tried, message.clone(), place), self.hand(1, tried, message, place))
                        .await;
                first_if_all(&mut [one, two].into_iter())
            }
            3 => {
                let (one, two, three) = join3(
                    self.hand(0, tried, message.clone(), place),
                    self.hand(1, tried, message.clone(), place),
                    self.hand(2, tried, message, place),
                )
                .await;
                first_if_all(&mut [one, two, three].into_iter())
            }
            _ => {
                let all = (0..count).map(|child| self.hand(child, tried, message.clone(), place));
                first_if_all(&mut join_all(all).await.into_iter())
            }
        }
    }
}

impl<Q: Queue> Publisher for CompositePublisher<Q> {
    async fn publish(&self, mut message: Message, token: Token) -> Result<Submitted, PublishError> {
        let Core { inner, table, .. } = &*self.0;
        if inner.is_closed() {
            inner.common.counters.refused.add();
            return Err(PublishError::Closed);
        }
        name(&mut message);
        let plan = inner.common.health.plan();
        let left_out = ChildSet::all(inner.children.len()).without(plan.tried);
        let all_needed = inner.common.strategy == Strategy::FailFast;
        if plan.tried.is_empty() || (all_needed && !left_out.is_empty()) {
            inner.common.counters.refused.add();
            return Err(PublishError::Client { backend: BACKEND, reason: inner.say_down(left_out) });
        }
        let place = table.reserve(token, message.id.clone(), plan).await;
        let mut handing = Handing { table, place: Some(place) };
        let refusal = self.hand_to_all(plan.tried, message, place).await;
        handing.place = None;
        table.handed(place, refusal)
    }

    /// Message by message, each to all children at once.
    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut count = 0;
        while let Some((message, token)) = batch.front_mut() {
            // The id stays with the message in the batch, so that a second try is the same message.
            name(message);
            let token = *token;
            match self.publish(message.clone(), token).await {
                Ok(submitted) => {
                    batch.pop_front();
                    count += 1;
                    if submitted == Submitted::Acknowledged {
                        self.0.table.completions().complete(token, Outcome::Acknowledged);
                    }
                }
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(count)
    }

    async fn flush(&self, deadline: Duration) -> usize {
        let Core { children, table, .. } = &*self.0;
        let flushing = async {
            join_all(children.iter().map(|child| child.flush(deadline))).await;
            table.settle().await;
        };
        // At the deadline the count below tells what is left.
        let _ = tokio::time::timeout(deadline, flushing).await;
        table.undecided()
    }
}

/// Gives a message without an id a random one: the copies must be known as such.
fn name(message: &mut Message) {
    if message.id.is_empty() {
        message.id = MessageId::from(uuid::Uuid::new_v4().simple().to_string());
    }
}

/// Looks at the table until it is gone or the queue is closed.
async fn sweep(table: Weak<Table>, limit: u64, stop: CancellationToken) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        let Some(table) = table.upgrade() else { return };
        table.sweep(limit);
    }
}
