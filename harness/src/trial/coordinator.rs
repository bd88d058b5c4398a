//! Opens the phases one after another, watches the counters, drains, and collects what everyone recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use queuebench_reports::record::Backlog;
use queuebench_system::queue::Queue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::assemble::{self, Collected, PhaseMark};
use super::baton::Baton;
use super::consumer::{self, ConsumerHandle, ConsumerSpec};
use super::producer::{self, PhaseOrder, ProducerHandle, ProducerSpec};
use super::usage::OwnUsage;
use super::{SETTLE_DEADLINE, TrialError, TrialOutcome, TrialSpec};
use crate::clock::{self, Nanos};
use crate::event::{Event, Order, Snapshot};
use crate::ledger::{ConsumerLedger, Ledger};
use crate::plan::Plan;
use crate::profile::Consumers;
use crate::recorder::{Progress, ReceiveRecorder, WindowClock, Windows};

/// How often the runner hears of the progress.
const TICK: Duration = Duration::from_millis(200);
/// How often the coordinator looks while it waits for consumers.
const LOOK: Duration = Duration::from_millis(2);
/// Between phases, consumers may catch up this long, so that one phase's backlog is not the next one's.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Nothing received for this long, and nothing left in the queue: what is missing will not come.
const QUIET: Duration = Duration::from_secs(3);
/// A message without a clear answer may still arrive; this long without any receipt ends the wait for it.
const UNKNOWN_QUIET: Duration = Duration::from_secs(1);
/// How far ahead a phase's first message is due, so that every producer has heard of it.
const LEAD_NS: u64 = 5_000_000;

/// The trial's main thread.
pub(super) struct Coordinator<'a, Q: Queue> {
    topics: &'a [Arc<Q>],
    plan: &'a Arc<Plan>,
    spec: &'a TrialSpec,
    stop: &'a CancellationToken,
    runtime: tokio::runtime::Runtime,
}

/// Threads and signals of a trial under way.
struct Crew {
    producers: Vec<ProducerHandle>,
    consumers: Vec<ConsumerHandle>,
    paused: watch::Sender<bool>,
    consumer_stop: CancellationToken,
    producer_stop: Arc<AtomicBool>,
    last_received: Arc<AtomicU64>,
    groups: u64,
}

impl<'a, Q: Queue> Coordinator<'a, Q> {
    pub(super) fn new(
        topics: &'a [Arc<Q>],
        plan: &'a Arc<Plan>,
        spec: &'a TrialSpec,
        stop: &'a CancellationToken,
    ) -> Result<Self, TrialError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { topics, plan, spec, stop, runtime })
    }

    pub(super) fn run(
        self,
        orders: Option<mpsc::Receiver<Order>>,
        events: &mut dyn FnMut(Event),
    ) -> Result<TrialOutcome, TrialError> {
        self.runtime.block_on(self.conduct(Baton::new(orders), events))
    }

    async fn conduct(
        &self,
        mut baton: Baton,
        events: &mut dyn FnMut(Event),
    ) -> Result<TrialOutcome, TrialError> {
        let profile = &self.spec.profile;
        let window_ns = u64::try_from(profile.window.0.as_nanos()).unwrap_or(u64::MAX);
        let windows = WindowClock::new(window_ns);
        let crew = self.muster(&windows).await?;

        let cue = baton.begin(0, || crew.totals(clock::now()), self.stop, events).await;
        let before = OwnUsage::now();
        let origin = cue.unwrap_or_else(|| clock::now() + LEAD_NS);
        windows.start(origin);
        events(Event::Started { at_ns: origin, planned_s: profile.planned_duration().as_secs_f64() });

        let mut marks = Vec::new();
        let mut backlog = None;
        let mut failure = None;
        for index in 0..profile.phases.len() {
            if self.stop.is_cancelled() {
                break;
            }
            let start = match index {
                0 => origin,
                _ => {
                    let cue = baton.begin(index, || crew.totals(origin), self.stop, events).await;
                    cue.unwrap_or_else(|| clock::now() + LEAD_NS)
                }
            };
            match self.phase(&crew, index, (origin, start), &mut backlog, events).await {
                Ok(mark) => {
                    marks.push(mark);
                    let phase = &profile.phases[index];
                    let last = index + 1 == profile.phases.len();
                    // With a conductor, only the conductor knows what is outstanding.
                    if phase.consumers == Consumers::Running && !last && !baton.has_conductor() {
                        let _ = timeout(CATCH_UP, crew.until_received()).await;
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // Whatever was built up is drained, also after an interruption or a failure.
        crew.paused.send_replace(false);
        events(Event::Draining { outstanding: crew.outstanding() });
        let drain = match (&failure, self.stop.is_cancelled()) {
            (None, false) => profile.drain_deadline.0,
            _ => Duration::from_secs(2).min(profile.drain_deadline.0),
        };
        let phases = profile.phases.len();
        let deadline_passed = match &failure {
            None => baton.end(phases, || crew.totals(origin), self.stop, events).await,
            Some(_) => None,
        };
        let deadline_passed = match deadline_passed {
            Some(passed) => passed,
            None => !self.drain(&crew, drain).await,
        };
        let usage = OwnUsage::now();
        let (producers, consumers) = crew.dismiss().await?;
        if let Some(error) = failure {
            return Err(error);
        }
        let collected = Collected {
            origin,
            marks,
            producers,
            consumers,
            backlog,
            window_ns,
            drain_deadline_passed: deadline_passed,
            partial: self.stop.is_cancelled(),
            before,
            after: usage,
        };
        let groups = profile.workload.groups;
        let promise = Ledger::promise_to(profile.workload.has_keys(), self.topics[0].promise());
        let judge = |ledger: &Ledger, _: &[_]| ledger.judge(promise, groups);
        assemble::assemble(collected, self.plan, self.spec, groups, judge, events)
    }

    /// Starts consumers, then producers, and waits until all are connected.
    async fn muster(&self, windows: &WindowClock) -> Result<Crew, TrialError> {
        let workload = &self.spec.profile.workload;
        let phases = self.plan.phases.len();
        let keys = u32::try_from(self.plan.keys.len()).unwrap_or(u32::MAX);
        let shard = self.spec.shard;
        let here = workload.all_producers();
        let all_producers = here.saturating_mul(shard.of);
        let (paused, _) = watch::channel(false);
        let mut crew = Crew {
            producers: Vec::new(),
            consumers: Vec::new(),
            paused,
            consumer_stop: CancellationToken::new(),
            producer_stop: Arc::new(AtomicBool::new(false)),
            last_received: Arc::new(AtomicU64::new(clock::now())),
            groups: u64::from(workload.groups),
        };
        let mut ready = Vec::new();
        for (topic, queue) in (0_u16..).zip(self.topics) {
            for seat in 0..workload.groups * workload.consumers {
                let (group, index) = (seat / workload.consumers, seat % workload.consumers);
                let (answer, answered) = oneshot::channel();
                let sends = |producer: u16| producer % here / workload.producers == topic;
                let spec = ConsumerSpec {
                    topic,
                    group,
                    index,
                    ledger: ConsumerLedger::of_topic(topic, group, all_producers, keys, sends),
                    recorder: ReceiveRecorder::new(phases, Windows::new(windows.clone())),
                    paused: crew.paused.subscribe(),
                    stop: crew.consumer_stop.clone(),
                    last_received: Arc::clone(&crew.last_received),
                };
                crew.consumers.push(consumer::start(Arc::clone(queue), self.spec.clone(), spec, answer)?);
                ready.push(answered);
            }
        }
        self.await_ready(&crew, std::mem::take(&mut ready), "subscribe").await?;
        let share = |total: u32| total.div_ceil(u32::from(here)).max(1);
        let capacity = self.plan.phases.iter().map(|p| share(p.in_flight)).max().unwrap_or(1);
        for index in 0..here {
            let (answer, answered) = oneshot::channel();
            let spec = ProducerSpec {
                id: shard.index * here + index,
                index,
                of: here,
                capacity,
                windows: windows.clone(),
            };
            let queue = Arc::clone(&self.topics[usize::from(index / workload.producers)]);
            crew.producers.push(producer::start(
                queue,
                Arc::clone(self.plan),
                self.spec.clone(),
                spec,
                answer,
            )?);
            ready.push(answered);
        }
        self.await_ready(&crew, ready, "connect its publishers").await?;
        Ok(crew)
    }

    async fn await_ready(
        &self,
        crew: &Crew,
        ready: Vec<oneshot::Receiver<Result<(), TrialError>>>,
        what: &str,
    ) -> Result<(), TrialError> {
        let all = async {
            for answered in ready {
                match answered.await {
                    Ok(result) => result?,
                    Err(_) => return Err(TrialError::Panicked("client".to_owned())),
                }
            }
            Ok(())
        };
        let result = match timeout(SETTLE_DEADLINE, all).await {
            Ok(result) => result,
            Err(_) => Err(TrialError::NotReady { what: what.to_owned(), waited: SETTLE_DEADLINE }),
        };
        if result.is_err() {
            crew.consumer_stop.cancel();
        }
        result
    }

    async fn phase(
        &self,
        crew: &Crew,
        index: usize,
        (origin, start): (Nanos, Nanos),
        backlog: &mut Option<Backlog>,
        events: &mut dyn FnMut(Event),
    ) -> Result<PhaseMark, TrialError> {
        let profile = &self.spec.profile;
        let phase = &profile.phases[index];
        let plan = &self.plan.phases[index];
        events(Event::Phase { name: phase.name.clone(), measured: phase.measured });

        let was_paused = *crew.paused.borrow();
        // Looked at before the consumers come back: they may drain all of it before the phase starts.
        let received_before = crew.received();
        let resumed = clock::now();
        crew.paused.send_replace(phase.consumers == Consumers::Paused);
        let span = u64::try_from(phase.duration.0.as_nanos()).unwrap_or(u64::MAX);
        let usage = OwnUsage::now();
        let next_slot = Arc::new(AtomicU64::new(0));
        let mut done = Vec::new();
        for producer in &crew.producers {
            let (answer, answered) = oneshot::channel();
            let order = PhaseOrder {
                index: u16::try_from(index).expect("validated: at most 64 phases"),
                start,
                end: plan.end_ns(start, phase.duration.0),
                next_slot: Arc::clone(&next_slot),
                in_flight: plan.in_flight_each(profile.workload.all_producers()),
                pacing: profile.pacing,
                stopped: Arc::clone(&crew.producer_stop),
            };
            // A producer that is gone says why when it is joined.
            let _ = producer.orders.send((order, answer)).await;
            done.push(answered);
        }

        let watch_parity = (was_paused && phase.consumers == Consumers::Running).then_some(received_before);
        let live_per_s = phase.rate.as_ref().map_or(0.0, |_| plan.mean_rate_per_s());
        // Found at the latest when the deadline for draining has passed as well.
        let parity_deadline = phase.duration.0 + profile.drain_deadline.0;
        let parity = async {
            let before = watch_parity?;
            timeout(parity_deadline, crew.until_parity(before, live_per_s, self.stop)).await.ok()
        };
        let producing = async {
            for answered in done {
                match answered.await {
                    Ok(result) => result?,
                    Err(_) => return Err(TrialError::Panicked("producer".to_owned())),
                }
            }
            Ok(())
        };
        let mut sent_by = 0;
        let mut received_while = 0;
        let produced = async {
            let result = producing.await;
            sent_by = clock::now();
            received_while = crew.received() - received_before;
            result
        };
        let work = async {
            let (produced, parity) = tokio::join!(produced, parity);
            produced.map(|()| parity)
        };
        let parity = self.with_progress(crew, origin, events, work).await?;
        if phase.consumers == Consumers::Paused {
            let build_s = seconds(sent_by.saturating_sub(start));
            *backlog = Some(Backlog { messages: crew.outstanding(), build_s, ..Backlog::default() });
        }
        if let (Some((messages, at)), Some(backlog)) = (parity, backlog.as_mut()) {
            backlog.time_to_parity_s = seconds(at.saturating_sub(resumed));
            #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
            let drained = messages as f64;
            backlog.drain_per_s = drained / backlog.time_to_parity_s.max(1e-9);
        }
        Ok(PhaseMark {
            start,
            planned_end: start + span,
            sent_by,
            received_while,
            own_cpu_s: OwnUsage::now().cpu_s - usage.cpu_s,
        })
    }

    /// Waits for `work`, telling the runner several times a second where the trial stands.
    async fn with_progress<T>(
        &self,
        crew: &Crew,
        origin: Nanos,
        events: &mut dyn FnMut(Event),
        work: impl Future<Output = Result<T, TrialError>>,
    ) -> Result<T, TrialError> {
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(TICK);
        let mut last = (clock::now(), crew.acknowledged());
        let mut stopping = false;
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    crew.producer_stop.store(true, Ordering::Relaxed);
                }
                _ = tick.tick() => {
                    let now = clock::now();
                    let acknowledged = crew.acknowledged();
                    let span_s = seconds(now - last.0);
                    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
                    let rate_per_s = if span_s > 0.05 { (acknowledged - last.1) as f64 / span_s } else { 0.0 };
                    last = (now, acknowledged);
                    events(Event::Progress(Snapshot { rate_per_s, acknowledged, ..crew.totals(origin) }));
                }
            }
        }
    }

    /// Waits until consumers have what was acknowledged; false when the deadline passed first.
    async fn drain(&self, crew: &Crew, deadline: Duration) -> bool {
        let all = async {
            crew.until_received().await;
            // What has no clear answer may still be on its way, and its receipts stand in for others' in
            // the count: only silence tells.
            while crew.unknown() > 0 && crew.quiet_for() < UNKNOWN_QUIET {
                tokio::time::sleep(LOOK).await;
            }
        };
        let lost = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if crew.quiet_for() < QUIET {
                    continue;
                }
                if self.is_empty().await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = all => true,
            () = lost => true,
            () = tokio::time::sleep(deadline) => false,
        }
    }
}

impl<Q: Queue> Coordinator<'_, Q> {
    /// Whether every topic says that it has nothing left.
    async fn is_empty(&self) -> bool {
        for queue in self.topics {
            let depth = timeout(Duration::from_secs(2), queue.depth()).await;
            if !matches!(depth, Ok(Ok(depth)) if depth.total() == Some(0)) {
                return false;
            }
        }
        true
    }
}

type Results = (Vec<producer::ProducerResult>, Vec<consumer::ConsumerResult>);

impl Crew {
    fn sum(&self, of: impl Fn(&ProducerHandle) -> &AtomicU64) -> u64 {
        self.producers.iter().map(|p| Progress::read(of(p))).sum()
    }

    /// Where the trial stands; the rate is for whoever knows the time between.
    fn totals(&self, origin: Nanos) -> Snapshot {
        Snapshot {
            elapsed_s: seconds(clock::now().saturating_sub(origin)),
            sent: self.sent(),
            acknowledged: self.acknowledged(),
            received: self.received(),
            unknown: self.unknown(),
            rate_per_s: 0.0,
            p95_us: self.recent_p95_us(),
        }
    }

    fn sent(&self) -> u64 {
        self.sum(|p| &p.sent.done)
    }

    fn acknowledged(&self) -> u64 {
        self.sum(|p| &p.settlement.progress.done)
    }

    fn unknown(&self) -> u64 {
        self.sum(|p| &p.settlement.progress.unknown)
    }

    fn received(&self) -> u64 {
        self.consumers.iter().map(|c| Progress::read(&c.received.done)).sum()
    }

    /// Acknowledged and not yet received, over all groups.
    fn outstanding(&self) -> u64 {
        let acknowledged = self.acknowledged();
        (0..self.groups)
            .map(|group| {
                let of_group = self.consumers.iter().filter(|c| u64::from(c.group) == group);
                let received: u64 = of_group.map(|c| Progress::read(&c.received.done)).sum();
                acknowledged.saturating_sub(received)
            })
            .sum()
    }

    fn recent_p95_us(&self) -> Option<f64> {
        let recent = |p: &ProducerHandle| p.settlement.books.lock().recorder.windows.recent_p95_ns();
        #[expect(clippy::cast_precision_loss, reason = "a latency far below 2^53 ns")]
        self.producers.iter().filter_map(recent).max().map(|ns| ns as f64 / 1e3)
    }

    fn quiet_for(&self) -> Duration {
        Duration::from_nanos(clock::now().saturating_sub(self.last_received.load(Ordering::Relaxed)))
    }

    async fn until_received(&self) {
        while self.outstanding() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until only the live load is outstanding: fifty milliseconds of it, or a hundred messages.
    /// Returns how many were received meanwhile and when that was.
    async fn until_parity(&self, before: u64, live_per_s: f64, stop: &CancellationToken) -> (u64, Nanos) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive rate; saturates"
        )]
        let live = ((live_per_s * 0.05) as u64).max(100);
        while self.outstanding() > live && !stop.is_cancelled() {
            tokio::time::sleep(LOOK).await;
        }
        (self.received() - before, clock::now())
    }

    /// Ends all threads and collects what they recorded.
    async fn dismiss(self) -> Result<Results, TrialError> {
        self.producer_stop.store(true, Ordering::Relaxed);
        self.consumer_stop.cancel();
        let mut producers = Vec::new();
        let mut consumers = Vec::new();
        let (producer_threads, orders): (Vec<_>, Vec<_>) =
            self.producers.into_iter().map(|p| (p.thread, p.orders)).unzip();
        // Without orders to come, producers finish.
        drop(orders);
        for thread in producer_threads {
            producers.push(join(thread).await??);
        }
        for consumer in self.consumers {
            consumers.push(join(consumer.thread).await??);
        }
        Ok((producers, consumers))
    }
}

async fn join<T: Send + 'static>(thread: JoinHandle<T>) -> Result<T, TrialError> {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    let deadline = Instant::now() + SETTLE_DEADLINE;
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return Err(TrialError::NotReady {
                what: format!("end the {name} thread"),
                waited: SETTLE_DEADLINE,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    thread.join().map_err(|_| TrialError::Panicked(name))
}

pub(crate) fn seconds(ns: Nanos) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}
