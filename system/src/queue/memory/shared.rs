//! The one object that all handles of a queue share: the lock, the counters, and the end of the queue.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::counters::Counters;
use super::group::Group;
use super::state::{Phase, Place, State, Wakes};
use super::{BACKEND, MemoryConfig};
use crate::queue::{Acknowledge, Depth, QueueError, Statistics, SubscribeOptions};

#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
    counters: Counters,
    /// Told when a draining queue has nothing left to wait for, and when it is closed.
    drained: Notify,
    config: MemoryConfig,
}

impl<T> Shared<T> {
    pub(super) fn config(&self) -> &MemoryConfig {
        &self.config
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.counters.snapshot(self.config.capacity)
    }
}

impl<T: Clone> Shared<T> {
    pub(super) fn new(config: MemoryConfig) -> Self {
        Self {
            state: Mutex::new(State::new(config.capacity)),
            counters: Counters::default(),
            drained: Notify::new(),
            config,
        }
    }

    /// Runs one step under the lock, then wakes whom it named, outside.
    #[inline]
    pub(super) fn step<R>(&self, step: impl FnOnce(&mut State<T>, &Counters, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let result = step(&mut state, &self.counters, &mut wakes);
        let drained = state.phase != Phase::Open && state.is_drained();
        drop(state);
        wakes.wake();
        if drained {
            self.drained.notify_waiters();
        }
        result
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().phase == Phase::Open
    }

    /// A place in a group, which is made if it is new. None: the queue is closed.
    pub(super) fn sit_down(&self, options: &SubscribeOptions) -> Option<Place> {
        self.step(|state, _, _| {
            if state.phase != Phase::Open {
                return None;
            }
            let known = state
                .groups
                .iter()
                .position(|group| group.active && group.name.as_ref() == Some(&options.group));
            let group = known.unwrap_or_else(|| {
                let name = Some(options.group.clone());
                if let Some(first) =
                    state.groups.iter().position(|group| group.active && group.name.is_none())
                {
                    state.groups[first].name = name;
                    first
                } else if let Some(free) = state.groups.iter().position(|group| !group.active) {
                    state.groups[free] = Group::new(name, self.config.capacity);
                    free
                } else {
                    state.groups.push(Group::new(name, self.config.capacity));
                    state.groups.len() - 1
                }
            });
            let seat = state.groups[group].sit_down(options.prefetch);
            Some(Place { group, seat, on_receive: options.acknowledge == Acknowledge::OnReceive })
        })
    }

    /// The subscriber at `place` is gone; what it holds it may still answer.
    pub(super) fn stand_up(&self, place: Place) {
        self.step(|state, _, wakes| {
            state.stop_waiting(place, wakes);
            let group = &mut state.groups[place.group];
            group.seats[place.seat].occupied = false;
            group.occupied -= 1;
        });
    }

    pub(super) fn forget_group(&self, name: &str) -> bool {
        let left = self.step(|state, _, wakes| {
            let others = state.groups.iter().filter(|group| group.active).count() > 1;
            let group = state.groups.iter_mut().find(|group| {
                group.active
                    && group.name.as_deref() == Some(name)
                    && group.occupied == 0
                    && group.in_hand == 0
            });
            let group = group.filter(|_| others)?;
            group.active = false;
            let left = group.clear();
            state.wake_all_publishers(wakes);
            Some(left)
        });
        left.is_some()
    }

    /// The depth of the group that is furthest behind, which is the one that the capacity bounds.
    pub(super) fn depth(&self) -> Depth {
        let state = self.state.lock();
        let furthest = state.groups.iter().max_by_key(|group| group.backlog);
        let (backlog, in_hand) = furthest.map_or((0, 0), |group| (group.backlog, group.in_hand));
        Depth { ready: Some((backlog - in_hand) as u64), unacknowledged: Some(in_hand as u64) }
    }

    pub(super) async fn close(&self, deadline: Duration) -> Result<(), QueueError> {
        let drained = async {
            loop {
                let mut notified = std::pin::pin!(self.drained.notified());
                notified.as_mut().enable();
                if self.step(|state, _, _| state.is_drained() || state.phase == Phase::Closed) {
                    return;
                }
                notified.await;
            }
        };
        if self.step(|state, _, wakes| {
            state.drain(wakes);
            !state.is_drained() && state.phase != Phase::Closed
        }) {
            // At the deadline what is left is counted below.
            let _ = tokio::time::timeout(deadline, drained).await;
        }
        let (left, unprocessed) = self.step(|state, _, wakes| match state.phase {
            Phase::Closed => (Vec::new(), 0),
            Phase::Open | Phase::Draining => state.shut(wakes),
        });
        self.drained.notify_waiters();
        drop(left);
        if unprocessed == 0 {
            return Ok(());
        }
        Err(QueueError::CloseDeadline { backend: BACKEND, outstanding: unprocessed as u64 })
    }
}
