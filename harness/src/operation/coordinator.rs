//! Opens the phases one after another and collects what the workers recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::worker::{self, WorkerHandle, WorkerSpec};
use super::{Operate, OperationOutcome, Worker};
use crate::clock::{self, Nanos};
use crate::event::{Event, Snapshot};
use crate::plan::Plan;
use crate::recorder::{Progress, WindowClock};
use crate::trial::parts::{self, Collected, OwnUsage, PhaseMark, PhaseOrder, seconds};
use crate::trial::{TrialError, TrialSpec};

/// How often the runner hears of the progress.
const TICK: Duration = Duration::from_millis(200);
/// How far ahead a phase's first slot is due, so that every worker has heard of it.
const LEAD_NS: u64 = 5_000_000;

struct Crew<L> {
    workers: Vec<WorkerHandle<L>>,
    stop: Arc<AtomicBool>,
}

impl<L> Crew<L> {
    fn done(&self) -> u64 {
        self.workers.iter().map(|w| Progress::read(&w.live.settled.done)).sum()
    }

    fn unknown(&self) -> u64 {
        self.workers.iter().map(|w| Progress::read(&w.live.settled.unknown)).sum()
    }

    fn sent(&self) -> u64 {
        self.workers.iter().map(|w| Progress::read(&w.live.sent.done)).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^53 ns")]
    fn p95_us(&self) -> Option<f64> {
        let worst = self.workers.iter().map(|w| w.live.p95_ns.load(Ordering::Relaxed)).max()?;
        (worst > 0).then(|| worst as f64 / 1e3)
    }
}

type Leaves<O> = <<O as Operate>::Worker as Worker>::Leaves;

pub(super) fn run<O: Operate>(
    subject: &Arc<O>,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> Result<OperationOutcome<Leaves<O>>, TrialError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(conduct(subject, plan, spec, stop, events))
}

async fn conduct<O: Operate>(
    subject: &Arc<O>,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> Result<OperationOutcome<Leaves<O>>, TrialError> {
    let profile = &spec.profile;
    let window_ns = u64::try_from(profile.window.0.as_nanos()).unwrap_or(u64::MAX);
    let windows = WindowClock::new(window_ns);
    let crew = muster(subject, plan, spec, &windows).await?;
    let before = OwnUsage::now();
    let origin = clock::now() + LEAD_NS;
    windows.start(origin);
    events(Event::Started { at_ns: origin, planned_s: profile.planned_duration().as_secs_f64() });

    let mut marks = Vec::new();
    let mut failure = None;
    for index in 0..profile.phases.len() {
        if stop.is_cancelled() {
            break;
        }
        match phase(&crew, index, origin, plan, spec, stop, events).await {
            Ok(mark) => marks.push(mark),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let after = OwnUsage::now();
    let (mut producers, mut leaves, mut attempted) = (Vec::new(), Vec::new(), 0);
    for WorkerHandle { orders, thread, .. } in crew.workers {
        drop(orders);
        // It has answered its last order, so it ends as soon as it has disconnected.
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        let (result, left) =
            ended.ok().and_then(Result::ok).ok_or_else(|| TrialError::Panicked("worker".to_owned()))??;
        attempted += result.ledger.attempted();
        producers.push(result);
        leaves.push(left);
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let collected = Collected {
        origin,
        marks,
        producers,
        consumers: Vec::new(),
        backlog: None,
        window_ns,
        drain_deadline_passed: false,
        partial: stop.is_cancelled(),
        before,
        after,
    };
    // Nothing is owed to any group of receivers.
    let judge = |_: &crate::ledger::Ledger, phases: &[_]| super::counts(phases, attempted);
    let trial = parts::assemble(collected, plan, spec, 0, judge, events)?;
    Ok(OperationOutcome { trial, leaves })
}

async fn muster<O: Operate>(
    subject: &Arc<O>,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    windows: &WindowClock,
) -> Result<Crew<Leaves<O>>, TrialError> {
    let of = spec.profile.workload.producers;
    let lanes = plan.phases.iter().map(|phase| phase.in_flight_each(of)).max().unwrap_or(1);
    let mut crew = Crew { workers: Vec::new(), stop: Arc::new(AtomicBool::new(false)) };
    let mut ready = Vec::new();
    for index in 0..of {
        let (answer, answered) = oneshot::channel();
        let id = spec.shard.index * of + index;
        let worker = WorkerSpec { id, index, of, lanes, windows: windows.clone() };
        crew.workers.push(worker::start(Arc::clone(subject), Arc::clone(plan), worker, answer)?);
        ready.push(answered);
    }
    for answered in ready {
        // Each worker bounds its own connecting.
        answered.await.map_err(|_| TrialError::Panicked("worker".to_owned()))??;
    }
    Ok(crew)
}

async fn phase<L>(
    crew: &Crew<L>,
    index: usize,
    origin: Nanos,
    plan: &Plan,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> Result<PhaseMark, TrialError> {
    let phase = &spec.profile.phases[index];
    let part = &plan.phases[index];
    events(Event::Phase { name: phase.name.clone(), measured: phase.measured });
    let start = if index == 0 { origin } else { clock::now() + LEAD_NS };
    let span = u64::try_from(phase.duration.0.as_nanos()).unwrap_or(u64::MAX);
    let usage = OwnUsage::now();
    let next_slot = Arc::new(AtomicU64::new(0));
    let mut done = Vec::new();
    for worker in &crew.workers {
        let (answer, answered) = oneshot::channel();
        let order = PhaseOrder {
            index: u16::try_from(index).expect("validated: at most 64 phases"),
            start,
            end: part.end_ns(start, phase.duration.0),
            next_slot: Arc::clone(&next_slot),
            in_flight: part.in_flight_each(spec.profile.workload.producers),
            pacing: spec.profile.pacing,
            stopped: Arc::clone(&crew.stop),
        };
        // A worker that is gone says why when it is joined.
        let _ = worker.orders.send((order, answer)).await;
        done.push(answered);
    }
    let working = async {
        for answered in done {
            answered.await.map_err(|_| TrialError::Panicked("worker".to_owned()))??;
        }
        Ok::<(), TrialError>(())
    };
    let mut working = std::pin::pin!(working);
    let mut tick = tokio::time::interval(TICK);
    let mut last = (clock::now(), crew.done());
    let mut stopping = false;
    loop {
        tokio::select! {
            result = &mut working => {
                result?;
                break;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                crew.stop.store(true, Ordering::Relaxed);
            }
            _ = tick.tick() => {
                let (now, done) = (clock::now(), crew.done());
                let span_s = seconds(now - last.0);
                #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
                let rate_per_s = if span_s > 0.05 { (done - last.1) as f64 / span_s } else { 0.0 };
                last = (now, done);
                events(Event::Progress(Snapshot {
                    elapsed_s: seconds(now.saturating_sub(origin)),
                    sent: crew.sent(),
                    acknowledged: done,
                    received: 0,
                    unknown: crew.unknown(),
                    rate_per_s,
                    p95_us: crew.p95_us(),
                }));
            }
        }
    }
    Ok(PhaseMark {
        start,
        planned_end: start + span,
        sent_by: clock::now(),
        received_while: 0,
        own_cpu_s: OwnUsage::now().cpu_s - usage.cpu_s,
    })
}
