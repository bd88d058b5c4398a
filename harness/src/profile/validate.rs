//! The rules a profile must keep beyond its syntax. Pure: looks at no file.

use super::{Arrivals, Consumers, FaultKind, Keys, Model, Payload, Phase, Profile, RateShape};
use crate::envelope;
use crate::units::{Size, Span};

/// A broken rule and where.
pub(super) struct Problem {
    pub(super) path: Vec<Step>,
    pub(super) message: String,
}

/// One step from the document's root to a value.
pub(super) enum Step {
    Key(String),
    Index(usize),
}

const MAX_PAYLOAD_BYTES: u64 = 16 << 20;
/// Order is proven per producer and key at eight bytes a pair and consumer.
const MAX_PRODUCER_KEYS: u64 = 4_000_000;
/// Every producer and every consumer is a thread or two with a client of its own.
const MAX_PRODUCERS: u32 = 256;
const MAX_CONSUMERS: u32 = 512;
/// Poisson arrivals are drawn before the phase, at eight bytes each.
const MAX_DRAWN_ARRIVALS: f64 = 20e6;

/// Every broken rule, in the order of the document.
pub(super) fn problems(profile: &Profile) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut check = |kept: bool, path: &[&str], message: &str| {
        if !kept {
            let path =
                path.iter().map(|step| step.parse().map_or(Step::Key((*step).to_owned()), Step::Index));
            found.push(Problem { path: path.collect(), message: message.to_owned() });
        }
    };

    let name_ok = !profile.name.is_empty()
        && profile.name.len() <= 60
        && !profile.name.starts_with('.')
        && profile.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    check(
        name_ok,
        &["name"],
        "must be 1 to 60 letters, digits, `-`, `_` or `.`, since it names the run's folder",
    );
    check((1..=1_000).contains(&profile.trials), &["trials"], "must be 1 to 1000");
    check((1..=64).contains(&profile.shards), &["shards"], "must be 1 to 64");
    check(profile.window.0.as_millis() >= 50, &["window"], "must be at least 50ms");
    check((1..=3_600).contains(&profile.drain_deadline.0.as_secs()), &["drain_deadline"], "must be 1s to 1h");

    let workload = &profile.workload;
    for (key, value) in
        [("producers", workload.producers), ("consumers", workload.consumers), ("groups", workload.groups)]
    {
        check((1..=64).contains(&value), &["workload", key], "must be 1 to 64");
    }
    check((1..=256).contains(&workload.topics), &["workload", "topics"], "must be 1 to 256");
    let topics = u32::from(workload.topics);
    check(
        topics * u32::from(workload.producers) <= MAX_PRODUCERS,
        &["workload", "topics"],
        "times producers must be at most 256, since each is a thread with a client of its own",
    );
    check(
        topics * u32::from(workload.consumers) * u32::from(workload.groups) <= MAX_CONSUMERS,
        &["workload", "topics"],
        "times groups times consumers must be at most 512, since each is a thread with a client of its own",
    );
    check((1..=1_000).contains(&workload.partitions), &["workload", "partitions"], "must be 1 to 1000");
    match &workload.payload {
        Payload::Fixed { size } | Payload::Random { size, .. } | Payload::Json { size } => {
            check(
                size.0 >= envelope::LEN as u64,
                &["workload", "payload"],
                &format!(
                    "must be at least {}, since every message carries its proof of origin",
                    Size(envelope::LEN as u64)
                ),
            );
            check(size.0 <= MAX_PAYLOAD_BYTES, &["workload", "payload"], "must be at most 16MiB");
        }
        Payload::File { .. } => {}
        Payload::Trace => {
            check(workload.trace.is_some(), &["workload", "payload"], "needs a [workload.trace]");
        }
    }
    if let Payload::Random { random_ratio, .. } = workload.payload {
        check(
            (0.0..=1.0).contains(&random_ratio),
            &["workload", "payload"],
            "needs a random_ratio from 0 to 1",
        );
    }
    match workload.keys {
        Keys::None => {}
        Keys::Trace => check(workload.trace.is_some(), &["workload", "keys"], "needs a [workload.trace]"),
        Keys::Uniform { count } | Keys::Zipf { count, .. } => {
            check(count >= 1, &["workload", "keys"], "needs a count of at least 1");
            check(
                u64::from(count) * u64::from(workload.all_producers()) <= MAX_PRODUCER_KEYS,
                &["workload", "keys"],
                "times all producers must be at most 4 million, since order is proven for each pair",
            );
        }
    }
    if let Keys::Zipf { exponent, .. } = workload.keys {
        check(
            exponent > 0.0 && exponent <= 10.0,
            &["workload", "keys"],
            "needs an exponent over 0, up to 10",
        );
    }

    check(!profile.phases.is_empty(), &["phase"], "needs at least one [[phase]]");
    check(profile.phases.len() <= 64, &["phase"], "may occur at most 64 times");
    check(
        profile.planned_duration().as_secs() <= 7 * 24 * 3_600,
        &["phase"],
        "must last at most a week in all",
    );
    check(
        profile.phases.iter().any(|p| p.measured),
        &["phase"],
        "needs at least one phase with measured = true",
    );
    for (index, phase) in profile.phases.iter().enumerate() {
        let index = index.to_string();
        let at = |key: &'static str| ["phase", index.as_str(), key];
        let first = profile.phases.iter().position(|p| p.name == phase.name);
        check(first.is_some_and(|f| f.to_string() == index), &at("name"), "must be unique among the phases");
        let named = !phase.name.is_empty()
            && phase.name.len() <= 40
            && phase.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        check(named, &at("name"), "must be 1 to 40 letters, digits, `-`, `_` or `.`");
        check(phase.duration.0.as_millis() >= 10, &at("duration"), "must be at least 10ms");
        check((1..=1_000_000).contains(&phase.in_flight()), &at("in_flight"), "must be 1 to 1,000,000");
        check(
            phase.in_flight() >= u32::from(workload.all_producers()) * u32::from(profile.shards),
            &at("in_flight"),
            "must be at least the number of producers of all topics and shards",
        );
        check(
            phase.consumers == Consumers::Running || profile.shards == 1,
            &at("consumers"),
            "can be paused in one shard only: a backlog is counted where it is drained",
        );
        match phase.model {
            Model::Open => {
                check(
                    phase.rate.is_some(),
                    &at("model"),
                    "is open, so the phase needs a rate like \"10k/s\"",
                );
            }
            Model::Closed => {
                check(
                    phase.rate.is_none(),
                    &at("rate"),
                    "goes with model = \"open\"; a closed phase runs as fast as it can",
                );
                check(
                    phase.in_flight.is_some(),
                    &at("model"),
                    "is closed, so the phase needs in_flight, for instance 256",
                );
                check(phase.arrivals == Arrivals::Constant, &at("arrivals"), "goes with model = \"open\"");
            }
        }
        if let Some(message) = rate_problem(phase, workload.trace.is_some()) {
            check(false, &at("rate"), &message);
        }
    }
    check(profile.faults.len() <= 64, &["fault"], "may occur at most 64 times");
    for (index, fault) in profile.faults.iter().enumerate() {
        let place = index.to_string();
        let at = |key: &'static str| ["fault", place.as_str(), key];
        let duration = fault.duration.map(|span| span.0);
        match fault.kind {
            FaultKind::Restart => check(
                duration.is_none(),
                &at("duration"),
                "goes with kill and pause; a restart takes as long as the server does",
            ),
            FaultKind::Kill | FaultKind::Pause => check(
                duration.is_some_and(|span| span.as_millis() >= 1),
                &at("kind"),
                "needs a duration, for instance \"1s\", after which it is undone",
            ),
        }
        check(
            fault.at.0 + duration.unwrap_or_default() < profile.planned_duration(),
            &at("at"),
            &format!("and duration must end before the load does ({})", Span(profile.planned_duration())),
        );
        check(
            profile.faults[..index].iter().all(|earlier| !earlier.overlaps(fault)),
            &at("at"),
            "must not fall into another fault of the same server",
        );
    }
    found
}

fn rate_problem(phase: &Phase, has_trace: bool) -> Option<String> {
    let seconds = phase.duration.0.as_secs_f64();
    let peak = match phase.rate.as_ref()? {
        RateShape::Constant(rate) => rate.get(),
        RateShape::Ramp { from, to } => from.get().max(to.get()),
        RateShape::Steps(steps) if steps.is_empty() => return Some("needs at least one step".to_owned()),
        RateShape::Steps(steps) => steps.iter().map(|r| r.get()).fold(0.0, f64::max),
        RateShape::Spike { base, peak, at, lasts } => {
            if at.0 + lasts.0 > phase.duration.0 {
                return Some(format!("has a spike that ends after the phase ({})", phase.duration));
            }
            base.get().max(peak.get())
        }
        RateShape::Trace(_) if !has_trace => return Some("needs a [workload.trace]".to_owned()),
        RateShape::Trace(pace) if !(pace.speed > 0.0 && pace.speed.is_finite()) => {
            return Some("needs a speed over 0".to_owned());
        }
        RateShape::Trace(_) if phase.arrivals == Arrivals::Poisson => {
            return Some("has its own arrivals, so it cannot be poisson".to_owned());
        }
        RateShape::Trace(_) => return None,
    };
    if phase.arrivals == Arrivals::Poisson && peak * seconds > MAX_DRAWN_ARRIVALS {
        return Some("times duration must be at most 20 million messages with poisson arrivals".to_owned());
    }
    None
}
