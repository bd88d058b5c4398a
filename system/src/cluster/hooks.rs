//! Telling applications what happened: hooks ([`Hooks`]) and event streams ([`EventStream`]).
//!
//! Applying never waits for anybody. Every listener sees the events that come after its registration, in log
//! order, from a queue of [`QUEUE_EVENTS`]; a listener that falls further behind loses the oldest and is told
//! how many ([`Told::Missed`]), so that it can look at the state itself. One hook's calls never overlap; a
//! hook that is slow delays nobody else, one that panics is logged, counted and called again with the next
//! event. Events are not told again after a restart.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::event::{
    Event, HealthChange, LeaseEnd, NodeJoin, NodeLeave, NodeRejoin, PartitionChange, Rebalance,
    RebalanceComplete, StateReplaced,
};

/// Events a listener may be behind.
pub const QUEUE_EVENTS: usize = 65_536;

/// An application's hooks; each does nothing unless it is written. They run on a thread that may block.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use queuebench_system::cluster::{Event, Hooks, event::StateReplaced, hooks::EventBus};
///
/// #[derive(Default)]
/// struct Refill(AtomicUsize);
///
/// impl Hooks for Refill {
///     fn state_replaced(&self, _: &StateReplaced) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (bus, refill) = (EventBus::default(), Arc::new(Refill::default()));
/// // `ClusterKit::add_hooks` does this on a node's own bus:
/// let drive = bus.drive(refill.clone(), tokio_util::sync::CancellationToken::new());
/// bus.publish(7, vec![Event::StateReplaced(StateReplaced { from_index: 2, to_index: 7 })]);
/// drop(bus);
/// drive.await;
/// assert_eq!(refill.0.load(Ordering::Relaxed), 1);
/// # });
/// ```
#[expect(unused_variables, reason = "the empty defaults name their arguments for whoever implements them")]
pub trait Hooks: Send + Sync + 'static {
    /// A node has become a member for the first time.
    fn node_join(&self, join: &NodeJoin) {}
    /// A member was started again, or came back; told on that node too.
    fn node_rejoin(&self, rejoin: &NodeRejoin) {}
    /// A member has gone.
    fn node_leave(&self, leave: &NodeLeave) {}
    /// An assignment is about to change.
    fn rebalance_start(&self, start: &Rebalance) {}
    /// A node has to have a partition's data.
    fn partition_change(&self, change: &PartitionChange) {}
    /// An assignment has changed.
    fn rebalance_complete(&self, complete: &RebalanceComplete) {}
    /// A lease has ended, and its locks with it.
    fn lease_end(&self, end: &LeaseEnd) {}
    /// This node sees the cluster's health otherwise than before.
    fn health_change(&self, change: &HealthChange) {}
    /// This node was sent the state instead of the commands it missed.
    fn state_replaced(&self, replaced: &StateReplaced) {}
    /// This hook was too slow: so many events were not told, look at the state itself.
    fn missed(&self, events: u64) {}

    /// Whether it is to be called for an event at all.
    fn wants(&self, event: &Event) -> bool {
        true
    }

    /// Calls the method that belongs to an event; what is told to all of them can be taken here instead.
    fn event(&self, event: &Event) {
        match event {
            Event::NodeJoin(join) => self.node_join(join),
            Event::NodeRejoin(rejoin) => self.node_rejoin(rejoin),
            Event::NodeLeave(leave) => self.node_leave(leave),
            Event::RebalanceStart(start) => self.rebalance_start(start),
            Event::PartitionChange(change) => self.partition_change(change),
            Event::RebalanceComplete(complete) => self.rebalance_complete(complete),
            Event::LeaseEnd(end) => self.lease_end(end),
            Event::HealthChange(change) => self.health_change(change),
            Event::StateReplaced(replaced) => self.state_replaced(replaced),
        }
    }
}

/// An event and where in the log it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Position of the command it came of; for local events, of the last one applied.
    pub index: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The next event.
    Notice(Arc<Notice>),
    /// It was too slow: so many events are lost to it.
    Missed(u64),
}

/// How deliveries went, all hooks of a node together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct HookStatistics {
    /// Calls that returned.
    pub delivered: u64,
    /// Events lost to hooks that were too slow.
    pub missed: u64,
    /// Calls that panicked.
    pub panicked: u64,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    missed: AtomicU64,
    panicked: AtomicU64,
}

/// Where events are published and listened for.
#[derive(Debug)]
pub struct EventBus {
    sender: broadcast::Sender<Arc<Notice>>,
    counters: Arc<Counters>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self::with_capacity(QUEUE_EVENTS)
    }
}

impl EventBus {
    /// A bus whose listeners may be so many events behind.
    #[must_use]
    pub fn with_capacity(events: usize) -> Self {
        Self { sender: broadcast::Sender::new(events.max(1)), counters: Arc::default() }
    }

    /// Tells everybody who listens; never waits.
    pub fn publish(&self, index: u64, events: Vec<Event>) {
        for event in events {
            // Only fails when nobody listens.
            let _ = self.sender.send(Arc::new(Notice { index, event }));
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> EventStream {
        EventStream(self.sender.subscribe())
    }

    /// Calls the hooks for everything from now on, until stopped. The registration counts from the moment of
    /// this call, not from the first poll of what it returns.
    pub fn drive(&self, hooks: Arc<dyn Hooks>, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        let (mut stream, counters) = (self.listen(), self.counters.clone());
        async move {
            loop {
                let told = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    told = stream.next() => told,
                };
                let Some(told) = told else { return };
                if let Told::Missed(events) = told {
                    counters.missed.fetch_add(events, Ordering::Relaxed);
                    tracing::warn!(events, "a hook is too slow, events are lost to it");
                }
                if matches!(&told, Told::Notice(notice) if !hooks.wants(&notice.event)) {
                    continue;
                }
                let hooks = hooks.clone();
                let called = tokio::task::spawn_blocking(move || match &told {
                    Told::Notice(notice) => hooks.event(&notice.event),
                    Told::Missed(events) => hooks.missed(*events),
                });
                match called.await {
                    Ok(()) => counters.delivered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        tracing::error!(%error, "a hook panicked");
                        counters.panicked.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
        }
    }

    /// How deliveries to hooks went so far.
    #[must_use]
    pub fn statistics(&self) -> HookStatistics {
        HookStatistics {
            delivered: self.counters.delivered.load(Ordering::Relaxed),
            missed: self.counters.missed.load(Ordering::Relaxed),
            panicked: self.counters.panicked.load(Ordering::Relaxed),
        }
    }
}

/// The events of a node, as they come.
///
/// ```
/// use queuebench_system::cluster::{Event, event::StateReplaced, hooks::{EventBus, Told}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let bus = EventBus::default();
/// let mut events = bus.listen();
/// bus.publish(7, vec![Event::StateReplaced(StateReplaced { from_index: 2, to_index: 7 })]);
/// let Some(Told::Notice(notice)) = events.next().await else { panic!("nothing told") };
/// assert_eq!(notice.index, 7);
/// # });
/// ```
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Arc<Notice>>);

impl EventStream {
    /// The next event; none once the node has stopped. May be dropped at any point without losing one.
    pub async fn next(&mut self) -> Option<Told> {
        match self.0.recv().await {
            Ok(notice) => Some(Told::Notice(notice)),
            Err(RecvError::Lagged(events)) => Some(Told::Missed(events)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use parking_lot::Mutex;
    use tokio_util::sync::CancellationToken;

    use super::{EventBus, HookStatistics, Hooks, Told};
    use crate::cluster::event::{Event, StateReplaced};

    fn event(number: u64) -> Event {
        Event::StateReplaced(StateReplaced { from_index: 0, to_index: number })
    }

    /// Notes what it is told; panics at 3, and waits for leave at 100.
    struct Recorder {
        told: mpsc::Sender<u64>,
        leave: Mutex<mpsc::Receiver<()>>,
    }

    impl Hooks for Recorder {
        fn state_replaced(&self, replaced: &StateReplaced) {
            self.told.send(replaced.to_index).unwrap();
            assert!(replaced.to_index != 3, "as asked for");
            if replaced.to_index == 100 {
                self.leave.lock().recv().unwrap();
            }
        }

        fn missed(&self, events: u64) {
            self.told.send(1_000 + events).unwrap();
        }
    }

    fn recorder() -> (Arc<Recorder>, mpsc::Receiver<u64>, mpsc::Sender<()>) {
        let ((told, heard), (go, leave)) = (mpsc::channel(), mpsc::channel());
        (Arc::new(Recorder { told, leave: Mutex::new(leave) }), heard, go)
    }

    async fn take(heard: mpsc::Receiver<u64>, count: usize) -> (Vec<u64>, mpsc::Receiver<u64>) {
        let take = move || ((0..count).map(|_| heard.recv().unwrap()).collect(), heard);
        tokio::task::spawn_blocking(take).await.unwrap()
    }

    #[tokio::test]
    async fn a_hook_is_told_in_order_and_survives_its_panic() {
        let (bus, stop) = (EventBus::default(), CancellationToken::new());
        let (recorder, heard, _go) = recorder();
        bus.publish(0, vec![event(0)]);
        let driving = tokio::spawn(bus.drive(recorder, stop.clone()));
        bus.publish(1, (1..=5).map(event).collect());
        let (told, _heard) = take(heard, 5).await;
        assert_eq!(told, [1, 2, 3, 4, 5], "from its registration on, without what came before");
        drop(bus);
        driving.await.unwrap();
    }

    #[tokio::test]
    async fn panics_are_counted() {
        let bus = EventBus::default();
        let (recorder, heard, _go) = recorder();
        let driving = tokio::spawn(bus.drive(recorder, CancellationToken::new()));
        bus.publish(1, vec![event(3), event(4)]);
        let counters = bus.counters.clone();
        drop(bus.sender);
        driving.await.unwrap();
        assert_eq!(take(heard, 2).await.0, [3, 4]);
        let bus = EventBus { sender: tokio::sync::broadcast::Sender::new(1), counters };
        assert_eq!(bus.statistics(), HookStatistics { delivered: 1, missed: 0, panicked: 1 });
    }

    #[tokio::test]
    async fn a_slow_hook_holds_up_nobody_and_is_told_what_it_missed() {
        let (bus, stop) = (EventBus::with_capacity(4), CancellationToken::new());
        let (slow, slow_heard, go) = recorder();
        let (quick, quick_heard, _) = recorder();
        let slow_driving = tokio::spawn(bus.drive(slow, stop.clone()));
        bus.publish(1, vec![event(100)]);
        let (told, slow_heard) = take(slow_heard, 1).await;
        assert_eq!(told, [100]);
        let quick_driving = tokio::spawn(bus.drive(quick, stop.clone()));
        let mut quick_heard = quick_heard;
        for number in 1..=10 {
            bus.publish(2, vec![event(if number == 3 { 33 } else { number })]);
            let (told, heard) = take(quick_heard, 1).await;
            assert_eq!(told, [if number == 3 { 33 } else { number }]);
            quick_heard = heard;
        }
        go.send(()).unwrap();
        assert_eq!(take(slow_heard, 5).await.0, [1_006, 7, 8, 9, 10]);
        assert_eq!(bus.statistics().missed, 6);
        stop.cancel();
        slow_driving.await.unwrap();
        quick_driving.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_node() {
        let bus = EventBus::with_capacity(2);
        let mut stream = bus.listen();
        bus.publish(1, (0..3).map(event).collect());
        drop(bus);
        assert_eq!(stream.next().await, Some(Told::Missed(1)));
        assert!(matches!(stream.next().await, Some(Told::Notice(_))));
        assert!(matches!(stream.next().await, Some(Told::Notice(_))));
        assert_eq!(stream.next().await, None);
    }
}
