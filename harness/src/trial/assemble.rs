//! From what the threads recorded to the record of the trial. No clock, no thread, no socket.

use super::consumer::ConsumerResult;
use super::coordinator::seconds;
use super::producer::ProducerResult;
use super::usage::OwnUsage;
use super::{TrialError, TrialOutcome, TrialSpec};
use crate::clock::Nanos;
use crate::event::Event;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::profile;
use crate::recorder::WindowSeries;
use hdrhistogram::Histogram;
use queuebench_reports::histograms::{Histograms, Key, Kind, Span, new_histogram};
use queuebench_reports::record::{
    Backlog, Delivery, Latency, LoadVerdict, Model, Phase, Resources, Series, Settings, Trial, Window,
};

/// Own lag above which a phase may not be the subject's (design: 1 ms at p99).
const LAG_LIMIT_NS: u64 = 1_000_000;
/// Share of the offered rate below which it counts as not reached.
const REACHED: f64 = 0.98;
/// Share of all cores above which the harness itself counts as saturated.
const SATURATED: f64 = 0.9;

/// When a phase was and what the coordinator saw of it.
#[derive(Debug)]
pub(crate) struct PhaseMark {
    pub(crate) start: Nanos,
    pub(crate) planned_end: Nanos,
    /// When the last producer was done.
    pub(crate) sent_by: Nanos,
    /// Messages received, all groups, between start and `sent_by`.
    pub(crate) received_while: u64,
    pub(crate) own_cpu_s: f64,
}

/// All that a trial's threads left.
pub(crate) struct Collected {
    pub(crate) origin: Nanos,
    /// Of the phases that were begun.
    pub(crate) marks: Vec<PhaseMark>,
    pub(crate) producers: Vec<ProducerResult>,
    pub(crate) consumers: Vec<ConsumerResult>,
    pub(crate) backlog: Option<Backlog>,
    pub(crate) window_ns: u64,
    pub(crate) drain_deadline_passed: bool,
    pub(crate) partial: bool,
    pub(crate) before: OwnUsage,
    pub(crate) after: OwnUsage,
}

/// Makes the outcome. Each of `groups` groups of receivers owes every message; what the ledger proves is for
/// `judge` to say.
pub(crate) fn assemble(
    collected: Collected,
    plan: &Plan,
    spec: &TrialSpec,
    groups: u16,
    judge: impl FnOnce(&Ledger, &[Phase]) -> Delivery,
    events: &mut dyn FnMut(Event),
) -> Result<TrialOutcome, TrialError> {
    let mut histograms = Histograms::default();
    let mut phases = Vec::new();
    for (index, mark) in collected.marks.iter().enumerate() {
        let merged = Merged::of(&collected, index);
        let phase = merged.phase(mark, index, collected.origin, plan, spec);
        let span = Span { start_s: phase.start_s, length_s: phase.end_s - phase.start_s };
        for (kind, histogram) in [
            (Kind::Response, &merged.response),
            (Kind::Service, &merged.service),
            (Kind::ScheduleLag, &merged.lag),
            (Kind::EndToEnd, &merged.end_to_end),
        ] {
            histograms.add(Key::new(&spec.subject, spec.index, &phase.name, kind), span, histogram)?;
        }
        phases.push(phase);
    }

    let failed_acks: u64 = collected.consumers.iter().map(|c| c.failed_acks).sum();
    if failed_acks > 0 {
        events(Event::Warning {
            text: format!("{failed_acks} acknowledgements of consumers did not reach the queue"),
        });
    }
    let mut sent = WindowSeries::new();
    let mut acknowledged = WindowSeries::new();
    let mut received = WindowSeries::new();
    let mut ledger = Ledger { drain_deadline_passed: collected.drain_deadline_passed, ..Ledger::default() };
    for producer in collected.producers {
        ledger.producers.insert(producer.id, producer.ledger);
        producer.send.windows.merge_into(&mut sent);
        producer.ack.windows.merge_into(&mut acknowledged);
    }
    for consumer in collected.consumers {
        ledger.consumers.push(consumer.ledger);
        consumer.recorder.windows.merge_into(&mut received);
    }
    let delivery = judge(&ledger, &phases);
    let harness = collected.after.since(&collected.before, delivery.acknowledged);
    let trial = Trial {
        index: spec.index,
        position: spec.position,
        phases,
        delivery,
        resources: Resources { harness, ..Resources::default() },
        faults: Vec::new(),
        series: series(collected.window_ns, u64::from(groups), &sent, &acknowledged, &received),
        backlog: collected.backlog,
        deaths: Vec::new(),
    };
    Ok(TrialOutcome { trial, histograms, ledger, started_ns: collected.origin, partial: collected.partial })
}

/// All threads' figures of one phase.
struct Merged {
    response: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
    end_to_end: Histogram<u64>,
    sent: u64,
    blocked: u64,
    rejected: u64,
    unknown: u64,
    last_sent: Nanos,
    last_acknowledged: Nanos,
}

impl Merged {
    fn of(collected: &Collected, index: usize) -> Self {
        let producers = &collected.producers;
        let sum = |of: fn(&ProducerResult) -> &Vec<u64>| producers.iter().map(|p| of(p)[index]).sum();
        let last = |of: fn(&ProducerResult) -> &Vec<Nanos>| {
            producers.iter().map(|p| of(p)[index]).max().unwrap_or(0)
        };
        Self {
            response: merge(producers.iter().map(|p| &p.ack.response[index])),
            service: merge(producers.iter().map(|p| &p.ack.service[index])),
            lag: merge(producers.iter().map(|p| &p.send.schedule_lag[index])),
            end_to_end: merge(collected.consumers.iter().map(|c| &c.recorder.end_to_end[index])),
            sent: sum(|p| &p.send.sent),
            blocked: sum(|p| &p.send.blocked),
            rejected: sum(|p| &p.ack.rejected),
            unknown: sum(|p| &p.ack.unknown),
            last_sent: last(|p| &p.send.last_sent),
            last_acknowledged: last(|p| &p.ack.last_acknowledged),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of messages are exact below 2^53")]
    fn phase(&self, mark: &PhaseMark, index: usize, origin: Nanos, plan: &Plan, spec: &TrialSpec) -> Phase {
        let written = &spec.profile.phases[index];
        let plan = &plan.phases[index];
        // A phase ends when its plan does, or when its last message was sent or acknowledged, if later:
        // what a slow subject still owes is part of its rate.
        let planned_end = if plan.schedule.is_some() { mark.planned_end } else { mark.start };
        let end = planned_end.max(self.last_sent).max(self.last_acknowledged);
        let length_s = seconds(end.saturating_sub(mark.start)).max(1e-9);
        let sending_s = seconds(mark.sent_by.saturating_sub(mark.start)).max(1e-9);
        let acknowledged = self.response.len();
        let achieved_per_s = acknowledged as f64 / length_s;
        let offered_per_s = plan.schedule.as_ref().map(|_| plan.mean_rate_per_s());
        let unsent = plan.schedule.as_ref().map_or(0, |s| s.slots().saturating_sub(self.sent));
        let mut extra = Settings::new();
        for (name, count) in [("unsent", unsent), ("blocked", self.blocked)] {
            if count > 0 {
                extra.insert(name.to_owned(), count.into());
            }
        }
        Phase {
            name: written.name.clone(),
            model: match written.model {
                profile::Model::Open => Model::Open,
                profile::Model::Closed => Model::Closed,
            },
            measured: written.measured,
            start_s: seconds(mark.start.saturating_sub(origin)),
            end_s: seconds(end.saturating_sub(origin)),
            offered_per_s,
            achieved_per_s,
            received_per_s: mark.received_while as f64 / sending_s,
            errors: self.rejected,
            unknown: self.unknown,
            load_verdict: self.load_verdict(offered_per_s, achieved_per_s, mark.own_cpu_s / sending_s, spec),
            in_flight: Some(u64::from(plan.in_flight)),
            response_us: Latency::from_nanoseconds(&self.response),
            service_us: Latency::from_nanoseconds(&self.service),
            schedule_lag_us: Latency::from_nanoseconds(&self.lag),
            end_to_end_us: Latency::from_nanoseconds(&self.end_to_end),
            extra,
        }
    }

    /// Late though nothing held the producers back and the subject answered faster than we were late, or
    /// no CPU left to send with: then the figures are the harness's own.
    fn load_verdict(
        &self,
        offered: Option<f64>,
        achieved: f64,
        own_cores: f64,
        spec: &TrialSpec,
    ) -> LoadVerdict {
        let p99 = |h: &Histogram<u64>| h.value_at_quantile(0.99);
        let late = offered.is_some()
            && self.blocked == 0
            && p99(&self.lag) > LAG_LIMIT_NS
            && p99(&self.service) < p99(&self.lag);
        let cores = std::thread::available_parallelism()
            .map_or(1.0, |n| f64::from(u32::try_from(n.get()).unwrap_or(1)));
        let saturated = !spec.embedded && own_cores > SATURATED * cores;
        match offered {
            _ if late || saturated => LoadVerdict::GeneratorLimited,
            Some(offered) if achieved < REACHED * offered => LoadVerdict::OfferedRateNotReached,
            _ => LoadVerdict::Ok,
        }
    }
}

fn merge<'a>(parts: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut whole = new_histogram();
    for part in parts {
        whole.add(part).expect("all of a trial's histograms have the same range");
    }
    whole
}

#[expect(clippy::cast_precision_loss, reason = "window numbers and latencies are far below 2^53")]
fn series(
    window_ns: u64,
    groups: u64,
    sent: &WindowSeries,
    acknowledged: &WindowSeries,
    received: &WindowSeries,
) -> Series {
    let last = [sent, acknowledged, received].iter().filter_map(|s| s.keys().next_back()).max();
    let count = |series: &WindowSeries, at: u64| series.get(&at).map_or(0, |w| w.latency.len());
    let percentile_us = |series: &WindowSeries, at: u64, q: f64| {
        let latency = &series.get(&at)?.latency;
        (!latency.is_empty()).then(|| latency.value_at_quantile(q) as f64 / 1e3)
    };
    let window_s = seconds(window_ns);
    let (mut owed, mut got) = (0, 0);
    let windows = last.map_or(Vec::new(), |&last| {
        (0..=last)
            .map(|at| {
                owed += count(acknowledged, at) * groups;
                got += count(received, at);
                Window {
                    start_s: at as f64 * window_s,
                    sent: count(sent, at),
                    acknowledged: count(acknowledged, at),
                    received: count(received, at),
                    errors: acknowledged.get(&at).map_or(0, |w| w.failed),
                    response_p50_us: percentile_us(acknowledged, at, 0.5),
                    response_p95_us: percentile_us(acknowledged, at, 0.95),
                    response_p99_us: percentile_us(acknowledged, at, 0.99),
                    schedule_lag_p99_us: percentile_us(sent, at, 0.99),
                    end_to_end_p95_us: percentile_us(received, at, 0.95),
                    backlog: Some(owed.saturating_sub(got)),
                    ..Window::default()
                }
            })
            .collect()
    });
    Series { window_s, windows }
}
