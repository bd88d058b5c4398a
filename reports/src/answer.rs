//! The answer in sentences that a person would say, made from the comparisons of the record.
//!
//! A difference is stated only where the verdict of its interval allows it, with one number where the interval is
//! narrow and two where it is wide. Subjects whose acknowledgements survive different things are not ranked
//! against each other. Broken promises come first: a fast queue that loses messages has not won.

use std::collections::BTreeMap;

mod capacity;
mod deaths;

pub(crate) use capacity::slo_words;

use crate::{
    figures::{Scale, rate},
    record::{
        Comparison, ComparisonVerdict, DeliveryVerdict, Durability, LoadVerdict, Model, Phase, Provisioner,
        Run, Subject,
    },
    statistics::{Direction, Metric, and, measured_phases},
};

/// An interval whose ends differ by more than this factor is stated as two numbers.
const WIDE_INTERVAL: f64 = 1.25;

/// The answer of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One or two sentences for the top of a page.
    pub headline: String,
    /// What else belongs to it, sentence by sentence.
    pub details: Vec<String>,
}

/// The answer of a run whose statistics are filled.
pub fn answer(run: &Run) -> Answer {
    if let Some(search) = &run.capacity {
        return capacity::answer(run, search);
    }
    if !run.subjects.iter().any(|subject| subject.summary.values().any(|phase| !phase.is_empty())) {
        return Answer { headline: "Nothing was measured.".to_owned(), details: skipped(run) };
    }
    let mut headline = broken_promises(run);
    let mut details = Vec::new();
    let groups = groups(run);
    let (main, others) = groups.split_first().map_or((&[][..], &[][..]), |(m, o)| (m.as_slice(), o));
    let latency_phase = headline_phase(run);
    let throughput_phase = throughput_phase(run);
    let statement = match main {
        [] => String::new(),
        [alone] => facts(run, alone, latency_phase.as_deref(), throughput_phase.as_deref()),
        several => {
            let ranked = [
                latency_phase.as_deref().map(|phase| rank(run, several, phase, Metric::ResponseP95)),
                throughput_phase.as_deref().map(|phase| rank(run, several, phase, Metric::Throughput)),
            ];
            let (statements, rest): (Vec<String>, Vec<Option<String>>) = ranked.into_iter().flatten().unzip();
            details.extend(rest.into_iter().flatten());
            statements.join(" ")
        }
    };
    if headline.is_empty() {
        headline = statement;
    } else {
        details.insert(0, statement);
    }
    for group in others {
        for subject in group {
            details.push(facts(run, subject, latency_phase.as_deref(), throughput_phase.as_deref()));
        }
    }
    details.extend(run.subjects.iter().filter_map(|subject| deaths::sentence(run, subject)));
    details.extend(fell_behind(run));
    details.extend(crate::scaling::scalings(run).iter().map(crate::scaling::Scaling::words));
    details.extend(skipped(run));
    Answer { headline, details }
}

/// The measured open phase in which the subjects are told apart: the one with the highest rate that all of them
/// carried, else the first.
pub(crate) fn headline_phase(run: &Run) -> Option<String> {
    let open = |name: &String| phases_of(run, name).all(|phase| phase.model == Model::Open);
    let candidates: Vec<String> = measured_phases(run).into_iter().filter(open).collect();
    candidates
        .iter()
        .filter(|name| phases_of(run, name).all(|phase| phase.load_verdict == LoadVerdict::Ok))
        .max_by(|a, b| offered(run, a).total_cmp(&offered(run, b)))
        .or(candidates.first())
        .cloned()
}

/// The phase that shows the highest rate: the first closed one, else the open one that offered most.
pub(crate) fn throughput_phase(run: &Run) -> Option<String> {
    let measured = measured_phases(run);
    let closed = measured.iter().find(|name| phases_of(run, name).any(|phase| phase.model == Model::Closed));
    closed
        .or_else(|| {
            // In an open phase that all carried, throughput is the plan's, not the subject's.
            measured.iter().rev().find(|name| {
                phases_of(run, name).any(|phase| phase.load_verdict == LoadVerdict::OfferedRateNotReached)
            })
        })
        .cloned()
}

/// "at 2,000 messages/s", "with 256 in flight", or the phase's name.
pub(crate) fn load_of(run: &Run, phase: &str) -> String {
    if run.capacity.is_some() {
        return "at each one's highest rate".to_owned();
    }
    let Some(first) = phases_of(run, phase).next() else { return phase.to_owned() };
    match (first.model, first.offered_per_s, first.in_flight) {
        (Model::Open, Some(offered), _) => format!("at {} messages/s", rate(offered)),
        (Model::Closed, _, Some(in_flight)) => format!("with {in_flight} in flight"),
        (Model::Closed, ..) => "at full load".to_owned(),
        (Model::Open, ..) => format!("in {phase}"),
    }
}

fn offered(run: &Run, phase: &str) -> f64 {
    phases_of(run, phase).filter_map(|phase| phase.offered_per_s).fold(0.0, f64::max)
}

/// The phases of that name, of all subjects and trials.
pub(crate) fn phases_of<'a>(run: &'a Run, name: &'a str) -> impl Iterator<Item = &'a Phase> {
    run.subjects
        .iter()
        .flat_map(|subject| &subject.trials)
        .flat_map(|trial| &trial.phases)
        .filter(move |phase| phase.name == name)
}

/// Subjects that may be ranked against each other, the largest group first and of equal ones the most durable.
fn groups(run: &Run) -> Vec<Vec<&Subject>> {
    let mut groups: BTreeMap<(bool, Durability), Vec<&Subject>> = BTreeMap::new();
    for subject in run.subjects.iter().filter(|subject| !subject.summary.is_empty()) {
        // A queue inside the process crosses no network: it is no match for a server, whatever it promises.
        let embedded = subject.provisioner == Provisioner::Embedded;
        groups.entry((embedded, subject.durability)).or_default().push(subject);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|((embedded, durability), group)| {
        (std::cmp::Reverse(group.len()), *embedded, std::cmp::Reverse(*durability))
    });
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Who is best, how sure that is, and against whom else: the statement and what belongs below it.
fn rank(run: &Run, subjects: &[&Subject], phase: &str, metric: Metric) -> (String, Option<String>) {
    let mut ordered: Vec<(&Subject, f64)> = subjects
        .iter()
        .filter(|subject| !generator_limited(subject, phase))
        .filter_map(|subject| Some((*subject, subject.summary.get(phase)?.get(metric.key())?.median)))
        .collect();
    match metric.better() {
        Direction::Lower => ordered.sort_by(|a, b| a.1.total_cmp(&b.1)),
        Direction::Higher => ordered.sort_by(|a, b| b.1.total_cmp(&a.1)),
    }
    let load = capitalized(&load_of(run, phase));
    let words = Words::of(metric);
    let Some(((best, value), rest)) = ordered.split_first() else {
        return (format!("{load} the harness itself was the limit: no figure there is a subject's."), None);
    };
    if rest.is_empty() {
        return (format!("{load} {} {}.", best.name, words.fact(*value)), None);
    }
    let mut equal = Vec::new();
    let mut beaten = Vec::new();
    let mut unknown = false;
    for (other, _) in rest {
        match find(run, &best.name, &other.name, phase, metric) {
            Some((ratio, ComparisonVerdict::Better)) => beaten.push((other.name.as_str(), ratio)),
            Some((_, ComparisonVerdict::NotEnoughData)) | None => unknown = true,
            Some(_) => equal.push(other.name.as_str()),
        }
    }
    if unknown {
        let noun = words.noun;
        let said =
            format!("{load} {} comes first in {noun}, but there are too few trials to tell.", best.name);
        return (said, None);
    }
    let beats = |(name, ratio): &(&str, Ratio)| format!("{} {} {name}", ratio.words(), words.than);
    if equal.is_empty() {
        let (next, others) = beaten.split_first().expect("the rest is not empty and nothing in it is equal");
        let said = format!("{load} {} {} {}{}.", best.name, words.verb, beats(next), words.suffix);
        let others: Vec<String> = others.iter().map(beats).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let more = format!("{} {} {}{}.", best.name, words.verb, and(&others), words.suffix);
        return (said, (!others.is_empty()).then_some(more));
    }
    let mut peers = vec![best.name.as_str()];
    peers.extend(&equal);
    let tie = format!("{load} no difference in {} could be shown between {}", words.noun, and(&peers));
    if beaten.is_empty() {
        return (format!("{tie}."), None);
    }
    let behind: Vec<&str> = beaten.iter().map(|(name, _)| *name).collect();
    // Only the best is known to beat the rest; its peers are not judged here.
    (format!("{tie}; {} {} {} {}.", best.name, words.verb, words.plain_than, and(&behind)), None)
}

/// The words in which a metric is ranked.
struct Words {
    noun: &'static str,
    verb: &'static str,
    than: &'static str,
    suffix: &'static str,
    plain_than: &'static str,
    metric: Metric,
}

impl Words {
    fn of(metric: Metric) -> Self {
        match metric {
            Metric::Throughput => Self {
                noun: "throughput",
                verb: "carries",
                than: "as much as",
                suffix: "",
                plain_than: "more than",
                metric,
            },
            _ => Self {
                noun: "p95 response time",
                verb: "answers",
                than: "faster than",
                suffix: " at p95",
                plain_than: "faster than",
                metric,
            },
        }
    }

    fn fact(&self, value: f64) -> String {
        match self.metric {
            Metric::Throughput => format!("carries {}/s", rate(value)),
            metric => format!("answers within {} at p95", Scale::alone(metric.unit(), value)),
        }
    }
}

/// How many times better, always at least one.
struct Ratio {
    median: f64,
    ci95: [f64; 2],
}

impl Ratio {
    fn words(&self) -> String {
        let [low, high] = self.ci95;
        if high / low > WIDE_INTERVAL {
            let (low, high) = (times(low), times(high));
            return if low == high { format!("{low} times") } else { format!("{low} to {high} times") };
        }
        match times(self.median).as_str() {
            "2" | "2.0" => "twice".to_owned(),
            text => format!("{text} times"),
        }
    }
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 { crate::figures::significant(ratio, 2) } else { format!("{ratio:.1}") }
}

/// The comparison of two subjects, turned so that the first is the one in question and more is better.
fn find(run: &Run, a: &str, b: &str, phase: &str, metric: Metric) -> Option<(Ratio, ComparisonVerdict)> {
    let matches = |c: &&Comparison| {
        c.metric == metric.key() && c.phase == phase && ((c.a == a && c.b == b) || (c.a == b && c.b == a))
    };
    let comparison = run.comparisons.iter().find(matches)?;
    let swapped = comparison.a != a;
    let verdict = match (comparison.verdict, swapped) {
        (ComparisonVerdict::Better, true) => ComparisonVerdict::Worse,
        (ComparisonVerdict::Worse, true) => ComparisonVerdict::Better,
        (verdict, _) => verdict,
    };
    let [low, high] = comparison.ci95.unwrap_or([comparison.ratio; 2]);
    // Fewer microseconds are more speed, so a latency's ratio is turned over, and so is that of a swapped pair.
    let invert = swapped != (metric.better() == Direction::Lower);
    let ratio = if invert {
        Ratio { median: 1.0 / comparison.ratio, ci95: [1.0 / high, 1.0 / low] }
    } else {
        Ratio { median: comparison.ratio, ci95: [low, high] }
    };
    Some((ratio, verdict))
}

/// What one subject shows, without a comparison.
fn facts(run: &Run, subject: &Subject, latency: Option<&str>, throughput: Option<&str>) -> String {
    let fact = |phase: Option<&str>, metric: Metric| {
        let phase = phase.filter(|phase| !generator_limited(subject, phase))?;
        let value = subject.summary.get(phase)?.get(metric.key())?.median;
        Some(format!("{} {}", Words::of(metric).fact(value), load_of(run, phase)))
    };
    let said: Vec<String> = [fact(latency, Metric::ResponseP95), fact(throughput, Metric::Throughput)]
        .into_iter()
        .flatten()
        .collect();
    if said.is_empty() {
        return format!("{} was measured, but the harness itself was the limit.", subject.name);
    }
    let nature = match (subject.provisioner, subject.durability) {
        (Provisioner::Embedded, Durability::Volatile) => ", which keeps messages in this process only,",
        (Provisioner::Embedded, _) => ", which runs in this process,",
        (_, Durability::Volatile) => ", whose acknowledgements survive nothing,",
        (_, Durability::ProcessCrash) => ", whose acknowledgements survive a crash of the server,",
        (_, Durability::PowerLoss) => ", whose acknowledgements survive a loss of power,",
    };
    let nature = if run.subjects.len() > 1 { nature } else { "" };
    format!("{}{nature} {}.", subject.name, said.join(" and "))
}

fn generator_limited(subject: &Subject, phase: &str) -> bool {
    subject
        .trials
        .iter()
        .flat_map(|trial| &trial.phases)
        .any(|p| p.name == phase && p.load_verdict == LoadVerdict::GeneratorLimited)
}

fn broken_promises(run: &Run) -> String {
    let mut sentences = Vec::new();
    for subject in &run.subjects {
        let broken: Vec<_> = subject
            .trials
            .iter()
            .map(|t| &t.delivery)
            .filter(|d| d.verdict == DeliveryVerdict::Violated)
            .collect();
        if broken.is_empty() {
            continue;
        }
        let lost: u64 = broken.iter().map(|delivery| delivery.lost).sum();
        let acknowledged: u64 = subject.trials.iter().map(|trial| trial.delivery.acknowledged).sum();
        sentences.push(if lost > 0 {
            format!(
                "{} lost {} of {} acknowledged messages.",
                subject.name,
                crate::figures::count(lost),
                crate::figures::count(acknowledged)
            )
        } else {
            format!("{} broke its delivery promise.", subject.name)
        });
    }
    sentences.join(" ")
}

fn fell_behind(run: &Run) -> Vec<String> {
    measured_phases(run)
        .iter()
        .filter_map(|phase| {
            let behind: Vec<&str> = run
                .subjects
                .iter()
                .filter(|subject| {
                    let mut phases = subject.trials.iter().flat_map(|trial| &trial.phases);
                    phases.any(|p| p.name == *phase && p.load_verdict == LoadVerdict::OfferedRateNotReached)
                })
                .map(|subject| subject.name.as_str())
                .collect();
            (!behind.is_empty()).then(|| format!("{} did not keep up {}.", and(&behind), load_of(run, phase)))
        })
        .collect()
}

fn skipped(run: &Run) -> Vec<String> {
    run.skipped
        .iter()
        .map(|skipped| format!("{} could not be started and is missing here.", skipped.subject))
        .collect()
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), chars.as_str()))
}

#[cfg(test)]
mod tests;
