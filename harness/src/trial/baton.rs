//! A shard's ear for its conductor: where several shards make one trial, phases begin and end on a cue.
//!
//! Without a conductor every wait answers at once, and the shard goes by its own counts.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Nanos;
use crate::event::{Event, Order, Snapshot};

/// How often a waiting shard says where it stands.
const TICK: Duration = Duration::from_millis(25);
/// A conductor that gives no cue for so long is gone; the shard then goes by its own counts.
const PATIENCE: Duration = Duration::from_secs(300);

/// Orders to come, if there is a conductor.
pub(super) struct Baton {
    orders: Option<mpsc::Receiver<Order>>,
}

impl Baton {
    pub(super) fn new(orders: Option<mpsc::Receiver<Order>>) -> Self {
        Self { orders }
    }

    pub(super) fn has_conductor(&self) -> bool {
        self.orders.is_some()
    }

    /// When `phase` begins, if that is for a conductor to say.
    pub(super) async fn begin(
        &mut self,
        phase: usize,
        totals: impl Fn() -> Snapshot,
        stop: &CancellationToken,
        events: &mut dyn FnMut(Event),
    ) -> Option<Nanos> {
        loop {
            match self.next(phase, &totals, stop, events).await? {
                Order::Begin { phase: begun, at_ns } if begun == phase => return Some(at_ns),
                // A cue for another phase is no cue for this one.
                Order::Begin { .. } => {}
                Order::End { .. } => return None,
            }
        }
    }

    /// Whether the deadline for draining passed with messages outstanding, if that is for a conductor to say.
    pub(super) async fn end(
        &mut self,
        phases: usize,
        totals: impl Fn() -> Snapshot,
        stop: &CancellationToken,
        events: &mut dyn FnMut(Event),
    ) -> Option<bool> {
        loop {
            if let Order::End { deadline_passed } = self.next(phases, &totals, stop, events).await? {
                return Some(deadline_passed);
            }
        }
    }

    async fn next(
        &mut self,
        phase: usize,
        totals: &impl Fn() -> Snapshot,
        stop: &CancellationToken,
        events: &mut dyn FnMut(Event),
    ) -> Option<Order> {
        let orders = self.orders.as_mut()?;
        let mut tick = interval(TICK);
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                order = orders.recv() => return order,
                () = stop.cancelled() => return None,
                () = sleep_until(deadline) => return None,
                _ = tick.tick() => events(Event::Waiting { phase, totals: totals() }),
            }
        }
    }
}
