//! The search for the highest rate of every subject, trial by trial, interleaved.

use std::time::{Duration, Instant};

use queuebench_reports::gate::Slo;
use queuebench_reports::record::{
    Capacity, CapacitySearch, DeliveryVerdict, LoadVerdict, Probe, ProbeKind, Provisioner, Trial,
};
use tokio_util::sync::CancellationToken;

use super::ensemble::Finished;
use super::pass::Pass;
use super::{Servers, Work};
use crate::capacity::{Bounds, Search, Verdict};
use crate::profile::{Consumers, Model, Phase, Profile, RateShape};
use crate::subject::SubjectRequest;
use crate::ui::Ui;
use crate::units::{Rate, Span};

/// What a search looks for, and how.
#[derive(Clone, Debug)]
pub struct CapacityTask {
    /// All have to hold.
    pub slo: Vec<Slo>,
    /// Where, and how closely.
    pub bounds: Bounds,
    /// Length of the measured phase of a trial.
    pub step: Duration,
    /// The search as a whole takes no longer than this and the trials that are then still due.
    pub time_limit: Duration,
}

/// The measured phase of every trial of a search.
const PHASE: &str = "probe";
/// Share of a rate that has to be carried.
const CARRIED: f64 = 0.98;
/// After this share of the time, what was found is confirmed.
const SEARCHING_SHARE: f64 = 0.75;
/// A trial that leaves nothing says nothing of the rate; after so many the subject is given up.
const FAILURES_MAX: u32 = 2;

/// One subject's search.
struct Seeker {
    search: Search,
    probes: Vec<Probe>,
    /// Trials at the rate that is being confirmed; of a search that finds none, the trial at the lowest rate.
    kept: Vec<Finished>,
    kept_rate: Option<f64>,
    failures: u32,
}

impl Work {
    pub(super) async fn search(
        &mut self,
        task: &CapacityTask,
        requests: &[SubjectRequest],
        servers: &Servers,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut seekers: Vec<Seeker> = requests.iter().map(|_| Seeker::new(task.bounds)).collect();
        let mut round = 0;
        let mut number = 0;
        while seekers.iter().any(Seeker::is_searching) && !stop.is_cancelled() {
            for position in 0..requests.len() {
                let at = (position + round) % requests.len();
                if started.elapsed() >= task.time_limit.mul_f64(SEARCHING_SHARE) {
                    seekers[at].search.hurry();
                }
                let (Some((rate, kind)), false) = (seekers[at].next(), stop.is_cancelled()) else { continue };
                number += 1;
                let request = &requests[at];
                let profile = probe_profile(&self.spec.profile, rate, task.step);
                let pass = Pass {
                    label: number.to_string(),
                    index: u32::try_from(seekers[at].kept.len())?,
                    position: u32::try_from(position)?,
                    profile: &profile,
                };
                let title =
                    format!("[{number}] {}, {} at {}", request.name, word(kind), Rate::per_second(rate));
                let bar = ui.work(title, profile.planned_duration());
                match self.pass(request, &pass, servers, &bar, stop).await {
                    Ok(finished) => {
                        let provisioner = self.record.subjects[at].provisioner;
                        let (probe, verdict) = judge(task, provisioner, rate, kind, &finished);
                        bar.end(&outcome_line(&probe, &task.slo));
                        seekers[at].take(probe, verdict, finished);
                    }
                    Err(failure) => {
                        bar.fail(&format!("{failure:#}"));
                        seekers[at].failures += 1;
                        if seekers[at].failures >= FAILURES_MAX {
                            self.failures.push(format!("{} at {rate}/s: {failure:#}", request.name));
                        }
                    }
                }
                self.record.capacity = Some(found(task, requests, &seekers));
                self.save()?;
            }
            round += 1;
        }
        self.record.capacity = Some(found(task, requests, &seekers));
        for (at, seeker) in seekers.into_iter().enumerate() {
            let unobserved = servers.pids(&requests[at]).is_empty();
            for finished in seeker.kept {
                self.take(at, finished, unobserved);
            }
        }
        self.save()
    }
}

impl Seeker {
    fn new(bounds: Bounds) -> Self {
        Self {
            search: Search::new(bounds),
            probes: Vec::new(),
            kept: Vec::new(),
            kept_rate: None,
            failures: 0,
        }
    }

    fn next(&self) -> Option<(f64, ProbeKind)> {
        self.search.next().filter(|_| self.failures < FAILURES_MAX)
    }

    fn is_searching(&self) -> bool {
        self.next().is_some()
    }

    fn take(&mut self, probe: Probe, verdict: Verdict, mut finished: Finished) {
        let confirming = self.search.is_confirming();
        let rate = probe.offered_per_s;
        let same = self.kept_rate.is_some_and(|kept| kept.total_cmp(&rate).is_eq());
        let lowest = self.kept_rate.is_none_or(|kept| rate < kept);
        if confirming && same && self.probes.last().is_some_and(|p| p.kind == ProbeKind::Confirmation) {
            finished.result.record.trial.index = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
            self.kept.push(finished);
        } else if confirming || lowest {
            // Another rate is confirmed, or none was yet.
            finished.result.record.trial.index = 0;
            self.kept = vec![finished];
            self.kept_rate = Some(rate);
        }
        self.probes.push(probe);
        self.search.tell(verdict);
    }
}

/// The load of one trial: the workload of the profile, a warm-up, and one open phase at the rate.
fn probe_profile(base: &Profile, rate: f64, step: Duration) -> Profile {
    let open = base.phases.iter().find(|p| p.model == Model::Open && p.measured);
    let phase = |name: &str, duration: Duration, measured: bool| Phase {
        name: name.to_owned(),
        model: Model::Open,
        rate: Some(RateShape::Constant(Rate::per_second(rate))),
        arrivals: open.map(|p| p.arrivals).unwrap_or_default(),
        in_flight: open.and_then(|p| p.in_flight),
        duration: Span(duration),
        measured,
        consumers: Consumers::Running,
        operation: open.and_then(|p| p.operation.clone()),
    };
    let warmup = (step / 4).clamp(Duration::from_millis(200), Duration::from_secs(2));
    Profile {
        trials: 1,
        // A fault is part of a timeline, and a search has none.
        faults: Vec::new(),
        phases: vec![phase("warmup", warmup, false), phase(PHASE, step, true)],
        ..base.clone()
    }
}

/// Holds a trial against the objective: every condition, every message, and the rate itself.
fn judge(
    task: &CapacityTask,
    provisioner: Provisioner,
    rate: f64,
    kind: ProbeKind,
    finished: &Finished,
) -> (Probe, Verdict) {
    let mut trial: Trial = finished.result.record.trial.clone();
    finished.usage.fill(&mut trial, finished.result.record.started_ns);
    let delivery = &trial.delivery;
    let phase = trial.phases.iter().find(|phase| phase.name == PHASE);
    let mut reasons = delivery.violations.clone();
    let mut load_verdict = LoadVerdict::OfferedRateNotReached;
    match phase {
        None => reasons.push("its warm-up did not end".to_owned()),
        Some(phase) => {
            load_verdict = phase.load_verdict;
            let broken = task.slo.iter().filter_map(|slo| slo.judge(provisioner, &trial, phase).err());
            reasons.extend(broken);
            if phase.achieved_per_s < CARRIED * rate {
                reasons.push(format!("only {:.0}/s were carried", phase.achieved_per_s));
            }
            // The harness's own lag is part of every response time: what holds in spite of it, holds.
            if phase.load_verdict == LoadVerdict::GeneratorLimited && !reasons.is_empty() {
                reasons.push("the harness was the limit".to_owned());
            }
        }
    }
    let holds = reasons.is_empty() && delivery.verdict == DeliveryVerdict::Kept;
    let verdict = match (holds, load_verdict) {
        (true, _) => Verdict::Held,
        (false, LoadVerdict::GeneratorLimited) => Verdict::HarnessLimited,
        (false, _) => Verdict::Broke,
    };
    let probe = Probe {
        kind,
        offered_per_s: rate,
        achieved_per_s: phase.map_or(0.0, |p| p.achieved_per_s),
        load_verdict,
        response_us: phase.map(|p| p.response_us).unwrap_or_default(),
        end_to_end_us: phase.map(|p| p.end_to_end_us).unwrap_or_default(),
        lost: delivery.lost,
        violations: delivery.violations.clone(),
        holds,
        reason: (!holds).then(|| reasons.join("; ")),
    };
    (probe, verdict)
}

fn found(task: &CapacityTask, requests: &[SubjectRequest], seekers: &[Seeker]) -> CapacitySearch {
    CapacitySearch {
        slo: task.slo.iter().map(ToString::to_string).collect(),
        bounds_per_s: [task.bounds.floor_per_s(), task.bounds.to_per_s],
        precision: task.bounds.precision,
        confirmations: task.bounds.confirmations,
        subjects: requests
            .iter()
            .zip(seekers)
            .map(|(request, seeker)| {
                let (highest_per_s, limited_by) = seeker.search.found();
                Capacity {
                    subject: request.name.clone(),
                    highest_per_s,
                    limited_by,
                    probes: seeker.probes.clone(),
                }
            })
            .collect(),
    }
}

fn outcome_line(probe: &Probe, slo: &[Slo]) -> String {
    let slo: Vec<_> = slo.iter().map(Slo::words).collect();
    match &probe.reason {
        None => format!("✓ {}", slo.join(", ")),
        Some(reason) => format!("✗ {reason}"),
    }
}

fn word(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Growth => "growing",
        ProbeKind::Bisection => "halving",
        ProbeKind::Confirmation => "confirming",
    }
}
