//! The thread behind one subscriber: takes batches from librdkafka, hands them over, stores what was
//! processed, and serves the group's events.
//!
//! All offsets are stored and committed on this one thread, so a rebalance can never race an
//! acknowledgement. At the prefetch bound it stops taking messages and goes on serving events. It ends
//! when told to, after storing what is processed and leaving the group.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::membership::{GroupEvents, Membership, Phase, Record};
use super::native::{self, FetchQueue, Fetched, Route};
use super::{BACKEND, KafkaConfig};
use crate::queue::{QueueError, SubscribeError};

/// Messages taken at a time.
const BATCH: usize = 1_000;

/// The longest wait for a message, and so the longest that a group event or an answer waits.
const WAIT: Duration = Duration::from_millis(20);

/// The same at the prefetch bound.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(5);

/// Starts the thread. `joined` learns when the group has taken this member in, or why not.
pub(super) fn start(
    config: &KafkaConfig,
    shared: Arc<Membership>,
    joined: oneshot::Sender<Result<(), QueueError>>,
) -> Result<(), QueueError> {
    let failed = |reason: String| QueueError::Failed { backend: BACKEND, reason };
    let consumer: BaseConsumer<GroupEvents> = config
        .consumer(&shared.group)
        .create_with_context(GroupEvents(Arc::clone(&shared)))
        .map_err(|error| failed(error.to_string()))?;
    let limit = config.connect_timeout();
    let brokers = config.brokers.clone();
    std::thread::Builder::new()
        .name("kafka-poll".to_owned())
        .spawn(move || {
            // Also when this thread panics: its subscriber must not wait for ever.
            let _end = End(Arc::clone(&shared));
            shared.i_am_the_poller();
            let Some(route) = Route::new(&consumer).map(Arc::new) else { return };
            *shared.route.lock() = Some(Arc::clone(&route));
            let mut poller = Poller {
                queue: FetchQueue::new(route, BATCH),
                shared: Arc::clone(&shared),
                consumer,
                fetched: Vec::with_capacity(BATCH),
                joining: Some(Joining { joined, started: Instant::now(), limit, brokers }),
            };
            if let Err(error) = poller.consumer.subscribe(&[shared.topic.as_str()]) {
                shared.end(SubscribeError::Client { backend: BACKEND, reason: error.to_string() });
                return;
            }
            poller.run();
            poller.leave();
        })
        .map_err(|error| failed(format!("cannot start a thread: {error}")))?;
    Ok(())
}

struct End(Arc<Membership>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.poller_ended();
    }
}

/// Somebody waits for this member to be taken in.
struct Joining {
    joined: oneshot::Sender<Result<(), QueueError>>,
    started: Instant,
    limit: Duration,
    brokers: String,
}

struct Poller {
    // The queue before the consumer: it is destroyed first.
    queue: FetchQueue,
    shared: Arc<Membership>,
    consumer: BaseConsumer<GroupEvents>,
    fetched: Vec<Fetched>,
    joining: Option<Joining>,
}

impl Poller {
    fn run(&mut self) {
        loop {
            self.serve_events();
            self.report_joined();
            match self.shared.phase() {
                Phase::Running => {}
                Phase::Draining => {
                    self.store_processed();
                    std::thread::park_timeout(WAIT_FOR_ROOM);
                    continue;
                }
                Phase::Stopping => return,
            }
            self.store_processed();
            let wait = match self.shared.redeliver_due() {
                Some(next) => next.saturating_duration_since(Instant::now()).min(WAIT),
                None => WAIT,
            };
            let room = self.shared.tracker.lock().room();
            if room == 0 {
                self.shared.await_room(WAIT_FOR_ROOM.min(wait));
                continue;
            }
            // While joining, events matter more than messages, of which there are none.
            let wait = if self.joining.is_some() { wait.min(Duration::from_millis(2)) } else { wait };
            self.queue.fetch(wait, room.min(BATCH), &mut self.fetched);
            if self.fetched.is_empty() && self.shared.transactional && !self.shared.on_receive {
                self.skip_markers();
            }
            self.hand_over();
        }
    }

    /// Rebalances, errors, logs, statistics. Messages only come this way in the moment before a partition
    /// was routed.
    fn serve_events(&mut self) {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(message) => self.fetched.push(native::convert_borrowed(&message)),
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                    let reason = format!("{error}; {}", self.shared.notes.last_words());
                    self.shared.end(SubscribeError::Client { backend: BACKEND, reason });
                    self.shared.advance(Phase::Stopping);
                }
                // librdkafka goes on by itself.
                Err(error) => tracing::debug!(%error, "consumer event"),
            }
        }
    }

    fn report_joined(&mut self) {
        let Some(joining) = &self.joining else { return };
        let notes = &self.shared.notes;
        let result = if self.shared.assigned.load(SeqCst) || notes.group_joined() {
            Ok(())
        } else if notes.refused_login() {
            Err(QueueError::Failed {
                backend: BACKEND,
                reason: format!("login refused: {}", notes.last_words()),
            })
        } else if joining.started.elapsed() >= joining.limit {
            Err(QueueError::Unreachable {
                backend: BACKEND,
                address: joining.brokers.clone(),
                waited: joining.limit,
                reason: format!("no place in group `{}`: {}", self.shared.group, notes.last_words()),
            })
        } else {
            return;
        };
        if let Some(joining) = self.joining.take() {
            // Whoever asked may have stopped waiting; dropping the subscriber stops this thread.
            let _ = joining.joined.send(result);
        }
    }

    fn hand_over(&mut self) {
        if self.fetched.is_empty() {
            return;
        }
        if self.shared.on_receive && !self.commit_before_delivery() {
            self.fetched.clear();
            return;
        }
        let mut tracker = self.shared.tracker.lock();
        let mut records = Vec::with_capacity(self.fetched.len());
        for fetched in self.fetched.drain(..) {
            match (fetched.record, u32::try_from(fetched.partition)) {
                (Ok(message), Ok(partition)) => {
                    if let Some(ticket) = tracker.arrived(partition, fetched.offset) {
                        records.push(Record { message, ticket, attempts: 0 });
                    }
                }
                (Err(error), _) => tracing::debug!(%error, partition = fetched.partition, "fetch"),
                (Ok(_), Err(_)) => {}
            }
        }
        drop(tracker);
        if !records.is_empty() {
            self.shared.hand_over(records);
        }
    }

    /// At most once: the positions after these messages are committed before anybody gets them. `false`
    /// when that was not possible and they must be dropped.
    fn commit_before_delivery(&mut self) -> bool {
        let mut positions = TopicPartitionList::new();
        let mut last = std::collections::BTreeMap::new();
        for fetched in self.fetched.iter().filter(|fetched| fetched.record.is_ok()) {
            let position = last.entry(fetched.partition).or_insert(0);
            *position = (fetched.offset + 1).max(*position);
        }
        for (partition, offset) in last {
            if positions.add_partition_offset(&self.shared.topic, partition, Offset::Offset(offset)).is_err()
            {
                return false;
            }
        }
        let revocations = self.shared.revocations.load(SeqCst);
        while self.shared.phase() == Phase::Running {
            match self.consumer.commit(&positions, CommitMode::Sync) {
                Ok(()) => return true,
                Err(error) => tracing::debug!(%error, "commit before delivery"),
            }
            while self.consumer.poll(Duration::from_millis(10)).is_some() {}
            if self.shared.revocations.load(SeqCst) != revocations {
                // They belong to another member now, which reads them from the committed position.
                return false;
            }
        }
        false
    }

    /// In an idle moment: what librdkafka passed over without giving it to us needs no answer.
    fn skip_markers(&mut self) {
        let Ok(positions) = self.consumer.position() else { return };
        let mut tracker = self.shared.tracker.lock();
        for element in positions.elements() {
            if let (Ok(partition), Offset::Offset(offset)) =
                (u32::try_from(element.partition()), element.offset())
            {
                tracker.skip_to(partition, offset);
            }
        }
    }

    fn store_processed(&mut self) {
        if self.shared.on_receive {
            return;
        }
        if let Some(positions) = self.shared.moved_positions()
            && let Err(error) = self.consumer.store_offsets(&positions)
        {
            // A partition that is being revoked; its messages are delivered again elsewhere.
            tracing::debug!(%error, "positions not stored");
        }
    }

    /// Commits what is processed and leaves the group. Answers after this come too late.
    fn leave(self) {
        let Self { queue, shared, consumer, .. } = self;
        if !shared.on_receive
            && let Some(positions) = shared.moved_positions()
            && let Err(error) = consumer.store_offsets(&positions)
        {
            tracing::debug!(%error, "positions not stored");
        }
        if !shared.on_receive
            && let Err(error) = consumer.commit_consumer_state(CommitMode::Sync)
            && error.rdkafka_error_code() != Some(rdkafka::types::RDKafkaErrorCode::NoOffset)
        {
            tracing::warn!(%error, group = shared.group, "processed messages may be delivered again");
        }
        *shared.route.lock() = None;
        drop(queue);
        // Revokes all partitions, so that late answers are refused, and leaves the group.
        drop(consumer);
    }
}
