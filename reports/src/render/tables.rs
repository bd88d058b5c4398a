//! The tables of the page, from the answer to every trial.

use indexmap::IndexMap;
use serde::Serialize;

use super::page::Table;
use crate::{
    answer::{load_of, phases_of},
    figures::{Figure, Scale, count, significant, with_unit},
    palette::Palette,
    record::{ComparisonVerdict, Delivery, DeliveryVerdict, LoadVerdict, Model, Provisioner, Run, Subject},
    statistics::{Metric, Unit, measured_phases},
    words::{answer_columns, durability, provisioner, scale},
};

mod gates;

pub(super) use gates::{Gates, gates};

/// The table right below the answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Heading, unit and load of each column of figures.
    columns: Vec<Column>,
    rows: Vec<AnswerRow>,
}

#[derive(Debug, Serialize)]
struct Column {
    title: String,
    unit: String,
    /// Both in few characters, for phones.
    brief: String,
}

#[derive(Debug, Serialize)]
struct AnswerRow {
    subject: Name,
    cells: Vec<Cell>,
    durability: &'static str,
    verdict: State,
    promise: String,
}

/// A subject's name with its colour.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Name {
    name: String,
    place: u8,
    how: String,
}

#[derive(Debug, Serialize)]
struct Cell {
    figure: Option<Figure>,
    /// Where the figure comes from in the table of trials.
    href: String,
    flag: Option<&'static str>,
}

/// A state said by a word and a sign.
#[derive(Debug, Serialize)]
pub(super) struct State {
    sign: &'static str,
    word: String,
    class: &'static str,
}

impl State {
    fn good(word: impl Into<String>) -> Self {
        Self { sign: "✓", word: word.into(), class: "good" }
    }

    fn bad(word: impl Into<String>) -> Self {
        Self { sign: "✗", word: word.into(), class: "bad" }
    }

    fn plain(sign: &'static str, word: impl Into<String>) -> Self {
        Self { sign, word: word.into(), class: "plain" }
    }
}

/// The name cell of a subject.
pub(super) fn name(subject: &Subject, palette: &Palette) -> Name {
    Name { name: subject.name.clone(), place: palette.place(&subject.name), how: how(subject) }
}

fn how(subject: &Subject) -> String {
    let provisioner = provisioner(subject.provisioner);
    if subject.version.is_empty() || subject.provisioner == Provisioner::Embedded {
        provisioner.to_owned()
    } else {
        format!("{provisioner} · {}", subject.version)
    }
}

pub(super) fn answer(run: &Run, palette: &Palette) -> Answer {
    let mut answer = measured(run, palette);
    if let Some(search) = &run.capacity {
        let unit = format!("messages/s with {}", crate::answer::slo_words(search));
        let brief = "highest messages/s".to_owned();
        answer.columns.insert(0, Column { title: "Highest rate".to_owned(), unit, brief });
        for (index, (row, subject)) in answer.rows.iter_mut().zip(&run.subjects).enumerate() {
            let found = search.subjects.iter().find(|capacity| capacity.subject == subject.name);
            let highest = found.and_then(|found| found.highest_per_s);
            let value = highest.map_or_else(|| "none".to_owned(), crate::figures::rate);
            let phase = measured_phases(run).into_iter().next().unwrap_or_default();
            row.cells.insert(
                0,
                Cell {
                    figure: Some(Figure { value, interval: None }),
                    href: row_id(run, index, &phase),
                    flag: found.and_then(crate::words::capacity_flag),
                },
            );
        }
    }
    answer
}

fn measured(run: &Run, palette: &Palette) -> Answer {
    let columns: Vec<(Metric, String)> = answer_columns(run)
        .into_iter()
        .filter(|(metric, _)| run.capacity.is_none() || *metric != Metric::Throughput)
        .collect();
    let scale_of = |metric: Metric, phase: &str| match metric {
        // Two columns that are compared at a glance share one unit.
        Metric::ResponseP95 | Metric::ResponseP99 => {
            scale(run, phase, &[Metric::ResponseP95, Metric::ResponseP99])
        }
        metric => scale(run, phase, &[metric]),
    };
    let heads = columns
        .iter()
        .map(|(metric, phase)| {
            let word = scale_of(*metric, phase).word;
            let (title, unit) = match metric {
                Metric::Throughput => {
                    ("Throughput".to_owned(), format!("messages/s {}", load_of(run, phase)))
                }
                Metric::CpuPerMessage => ("CPU".to_owned(), format!("{word}/message, whole trial")),
                Metric::RssPeak => ("Memory".to_owned(), format!("{word} at peak")),
                metric => (sentence_case(metric.title()), format!("{word} {}", short_load(run, phase))),
            };
            let brief = match metric {
                Metric::Throughput => "messages/s".to_owned(),
                Metric::CpuPerMessage => format!("CPU {word}/message"),
                Metric::RssPeak => format!("memory {word}"),
                Metric::ResponseP95 => format!("p95 {word}"),
                Metric::ResponseP99 => format!("p99 {word}"),
                other => other.title().to_owned(),
            };
            Column { title, unit, brief }
        })
        .collect();
    let rows = run
        .subjects
        .iter()
        .enumerate()
        .map(|(index, subject)| AnswerRow {
            subject: name(subject, palette),
            cells: columns
                .iter()
                .map(|(metric, phase)| Cell {
                    figure: subject
                        .summary
                        .get(phase)
                        .and_then(|summary| summary.get(metric.key()))
                        .map(|interval| scale_of(*metric, phase).figure(interval)),
                    href: row_id(run, index, phase),
                    flag: match metric {
                        Metric::CpuPerMessage | Metric::RssPeak => None,
                        _ => load_flag(subject, phase),
                    },
                })
                .collect(),
            durability: durability(subject.durability),
            verdict: verdict(subject),
            promise: promise(subject),
        })
        .collect();
    Answer { columns: heads, rows }
}

fn short_load(run: &Run, phase: &str) -> String {
    if run.capacity.is_some() {
        return "at that rate".to_owned();
    }
    let offered = phases_of(run, phase).find_map(|phase| phase.offered_per_s);
    match offered {
        Some(offered) => format!("at {}", super::axis::rate_tick(offered)),
        None => load_of(run, phase),
    }
}

fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), chars.as_str()))
}

/// Why the figures of a phase need care, if they do.
fn load_flag(subject: &Subject, phase: &str) -> Option<&'static str> {
    let verdicts = || {
        let phases = subject.trials.iter().flat_map(|trial| &trial.phases);
        phases.filter(|p| p.name == phase).map(|p| p.load_verdict)
    };
    if verdicts().any(|verdict| verdict == LoadVerdict::GeneratorLimited) {
        Some("△ harness was the limit")
    } else if verdicts().any(|verdict| verdict == LoadVerdict::OfferedRateNotReached) {
        Some("△ fell behind the plan")
    } else {
        None
    }
}

fn verdict(subject: &Subject) -> State {
    let deliveries: Vec<&Delivery> = subject.trials.iter().map(|trial| &trial.delivery).collect();
    if deliveries.is_empty() {
        return State::plain("–", "not measured");
    }
    let lost: u64 = deliveries.iter().map(|delivery| delivery.lost).sum();
    if deliveries.iter().any(|delivery| delivery.verdict == DeliveryVerdict::Violated) {
        return State::bad(if lost > 0 {
            format!("{} lost", count(lost))
        } else {
            "promise broken".to_owned()
        });
    }
    if lost > 0 {
        State::plain("△", format!("{} lost, as allowed", count(lost)))
    } else {
        State::good("none lost")
    }
}

fn promise(subject: &Subject) -> String {
    subject.trials.first().map_or_else(String::new, |trial| {
        let promise = &trial.delivery.promise;
        if promise.ordered_per_key {
            format!("{}, in order", promise.delivery)
        } else {
            promise.delivery.clone()
        }
    })
}

fn row_id(run: &Run, subject: usize, phase: &str) -> String {
    let phase = measured_phases(run).iter().position(|name| name == phase).unwrap_or(0);
    format!("data-{subject}-{phase}")
}

/// Pairs of subjects against each other.
#[derive(Debug, Serialize)]
pub(super) struct Pairs {
    columns: Vec<Column>,
    rows: Vec<PairRow>,
}

#[derive(Debug, Serialize)]
struct PairRow {
    a: Name,
    b: Name,
    cells: Vec<Option<PairCell>>,
}

#[derive(Debug, Serialize)]
struct PairCell {
    ratio: String,
    interval: Option<String>,
    state: State,
}

pub(super) fn pairs(run: &Run, palette: &Palette) -> Pairs {
    let columns: Vec<(Metric, String)> =
        answer_columns(run).into_iter().filter(|(metric, _)| *metric != Metric::ResponseP99).collect();
    let mut rows = Vec::new();
    for (index, a) in run.subjects.iter().enumerate() {
        for b in &run.subjects[index + 1..] {
            let cells: Vec<_> =
                columns.iter().map(|(metric, phase)| pair_cell(run, a, b, *metric, phase)).collect();
            if cells.iter().any(Option::is_some) {
                rows.push(PairRow { a: name(a, palette), b: name(b, palette), cells });
            }
        }
    }
    let heads = columns
        .iter()
        .map(|(metric, phase)| Column {
            title: sentence_case(metric.title()),
            unit: match metric {
                Metric::CpuPerMessage | Metric::RssPeak => "whole trial".to_owned(),
                _ => short_load(run, phase),
            },
            brief: String::new(),
        })
        .collect();
    Pairs { columns: heads, rows }
}

fn pair_cell(run: &Run, a: &Subject, b: &Subject, metric: Metric, phase: &str) -> Option<PairCell> {
    let found = run
        .comparisons
        .iter()
        .find(|c| c.a == a.name && c.b == b.name && c.metric == metric.key() && c.phase == phase)?;
    Some(PairCell {
        ratio: format!("{} ×", ratio_text(found.ratio)),
        interval: found.ci95.map(|[low, high]| format!("{}–{}", ratio_text(low), ratio_text(high))),
        state: comparison_state(found.verdict),
    })
}

pub(super) fn comparison_state(verdict: ComparisonVerdict) -> State {
    match verdict {
        ComparisonVerdict::Better => State::plain("▲", "better"),
        ComparisonVerdict::Worse => State::plain("▼", "worse"),
        ComparisonVerdict::Same => State::plain("≈", "no difference shown"),
        ComparisonVerdict::NotEnoughData => State::plain("?", "too few trials"),
    }
}

pub(super) fn ratio_text(ratio: f64) -> String {
    // Nobody counts zeros: a hundredth reads better than 0.0100.
    if ratio > 0.0 && ratio < 0.1 {
        return format!("1/{}", significant(1.0 / ratio, 2));
    }
    significant(ratio, if ratio >= 10.0 { 2 } else { 3 })
}

/// What the ledger counted.
#[derive(Debug, Serialize)]
pub(super) struct Ledger {
    head: Vec<&'static str>,
    rows: Vec<LedgerRow>,
}

#[derive(Debug, Serialize)]
struct LedgerRow {
    subject: Name,
    counts: Vec<String>,
    promise: String,
    verdict: State,
    violations: Vec<String>,
}

pub(super) fn ledger(run: &Run, palette: &Palette) -> Ledger {
    type Field = (&'static str, fn(&Delivery) -> u64);
    let mut fields: Vec<Field> = vec![
        ("Acknowledged", |d| d.acknowledged),
        ("Received", |d| d.received),
        ("Lost", |d| d.lost),
        ("Duplicated", |d| d.duplicated),
        ("Reordered", |d| d.reordered),
        ("Unknown", |d| d.unknown),
        ("Rejected", |d| d.rejected),
        ("Corrupted", |d| d.corrupted),
        ("Stray", |d| d.stray),
    ];
    let deliveries = || run.subjects.iter().flat_map(|subject| &subject.trials).map(|trial| &trial.delivery);
    if deliveries().any(|delivery| delivery.resurrected > 0) {
        fields.push(("Resurrected", |d| d.resurrected));
    }
    if deliveries().any(|delivery| delivery.reordered_redelivered > 0) {
        let place = fields.iter().position(|(name, _)| *name == "Reordered").map_or(fields.len(), |i| i + 1);
        fields.insert(place, ("of these, redelivered", |d| d.reordered_redelivered));
    }
    let rows = run
        .subjects
        .iter()
        .filter(|subject| !subject.trials.is_empty())
        .map(|subject| {
            let mut violations: Vec<String> = Vec::new();
            for text in subject.trials.iter().flat_map(|trial| &trial.delivery.violations) {
                if !violations.contains(text) {
                    violations.push(text.clone());
                }
            }
            let kept = subject.trials.iter().all(|trial| trial.delivery.verdict == DeliveryVerdict::Kept);
            LedgerRow {
                subject: name(subject, palette),
                counts: fields
                    .iter()
                    .map(|(_, field)| count(subject.trials.iter().map(|trial| field(&trial.delivery)).sum()))
                    .collect(),
                promise: promise(subject),
                verdict: if kept { State::good("kept") } else { State::bad("broken") },
                violations,
            }
        })
        .collect();
    Ledger { head: fields.iter().map(|(title, _)| *title).collect(), rows }
}

/// Build, drain and parity of backlog phases; `None` when the profile has none.
pub(super) fn backlog(run: &Run) -> Option<Table> {
    let rows: Vec<Vec<String>> = run
        .subjects
        .iter()
        .flat_map(|subject| subject.trials.iter().map(move |trial| (subject, trial)))
        .filter_map(|(subject, trial)| Some((subject, trial, trial.backlog?)))
        .map(|(subject, trial, backlog)| {
            vec![
                subject.name.clone(),
                (trial.index + 1).to_string(),
                count(backlog.messages),
                format!("{} s", significant(backlog.build_s, 3)),
                format!("{}/s", significant(backlog.drain_per_s, 3)),
                format!("{} s", significant(backlog.time_to_parity_s, 3)),
            ]
        })
        .collect();
    let head = ["Subject", "Trial", "Messages waiting", "Built in", "Drained at", "Parity after"];
    (!rows.is_empty()).then(|| Table {
        caption: "Backlog by subject and trial".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows,
    })
}

/// The settings of one subject.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    subject: Name,
    rows: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: String,
    /// Quoted from the server rather than asked of it.
    quoted: bool,
}

pub(super) fn settings(run: &Run, palette: &Palette) -> Vec<Settings> {
    run.subjects
        .iter()
        .map(|subject| Settings {
            subject: name(subject, palette),
            rows: subject
                .settings
                .iter()
                .map(|(key, value)| Setting {
                    key: key.strip_prefix("server.").unwrap_or(key).to_owned(),
                    value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                    quoted: key.starts_with("server."),
                })
                .collect(),
        })
        .collect()
}

pub(super) fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "memory is below 2^53 bytes")]
    let gib = bytes as f64 / 1_073_741_824.0;
    format!("{} GiB", super::axis::trimmed((gib * 10.0).round() / 10.0))
}

pub(super) fn environment(run: &Run) -> Vec<(String, String)> {
    let environment = &run.environment;
    let cores = crate::statistics::plural(environment.cores as usize, "core");
    let facts = [
        ("CPU", Some(format!("{}, {cores}", environment.cpu_model))),
        ("Memory", Some(gib(environment.memory_bytes))),
        ("System", Some(format!("{}, kernel {}", environment.os, environment.kernel))),
        ("Virtualization", environment.virtualization.clone()),
        ("Data on", environment.data_filesystem.clone()),
        ("CPU governor", environment.cpu_governor.clone()),
        ("Load at start", environment.load_average_1m.map(|load| format!("{load:.2}"))),
        ("Containers", environment.container_engine.as_ref().map(|e| format!("{} {}", e.name, e.version))),
        ("Compiler", Some(environment.rustc.clone())),
        ("Commit", environment.git_commit.clone()),
        ("Seed", Some(run.seed.to_string())),
        ("Run", Some(run.id.clone())),
    ];
    facts
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.filter(|text| !text.is_empty())?)))
        .collect()
}

pub(super) fn own_cost(run: &Run) -> Vec<(String, String)> {
    let Some(own) = run.calibration else { return Vec::new() };
    let us = |value| Scale::alone(Unit::Microseconds, value);
    let mut facts = vec![
        (
            "Offered".to_owned(),
            format!("{}/s to a subject that does nothing", significant(own.offered_per_s, 3)),
        ),
        ("Schedule lag p50".to_owned(), us(own.schedule_lag_p50_us)),
        ("Schedule lag p99".to_owned(), us(own.schedule_lag_p99_us)),
        ("CPU".to_owned(), format!("{} per message", us(own.cpu_us_per_message))),
    ];
    if let Some(closed) = own.closed_per_s {
        facts.push(("Highest rate".to_owned(), format!("{}/s", significant(closed, 3))));
    }
    facts
}

/// Every measured phase of every trial.
#[derive(Debug, Serialize)]
pub(super) struct Trials {
    head: Vec<String>,
    groups: Vec<TrialGroup>,
}

#[derive(Debug, Serialize)]
struct TrialGroup {
    id: String,
    subject: Name,
    phase: String,
    rows: Vec<Vec<String>>,
}

pub(super) fn trials(run: &Run, palette: &Palette) -> Trials {
    let mut groups = Vec::new();
    for (index, subject) in run.subjects.iter().enumerate() {
        let mut by_phase: IndexMap<&str, Vec<Vec<String>>> = IndexMap::new();
        for trial in &subject.trials {
            for phase in trial.phases.iter().filter(|phase| phase.measured) {
                let ms = |us: f64, count: u64| {
                    if count == 0 { "–".to_owned() } else { significant(us / 1e3, 4) }
                };
                let response = &phase.response_us;
                let load = match (phase.model, phase.load_verdict) {
                    (_, LoadVerdict::GeneratorLimited) => "harness-limited",
                    (_, LoadVerdict::OfferedRateNotReached) => "fell behind",
                    (Model::Closed, _) => "closed",
                    (Model::Open, _) => "as planned",
                };
                by_phase.entry(&phase.name).or_default().push(vec![
                    (trial.index + 1).to_string(),
                    phase.offered_per_s.map_or_else(|| "–".to_owned(), |rate| significant(rate, 4)),
                    significant(phase.achieved_per_s, 4),
                    significant(phase.received_per_s, 4),
                    ms(response.p50, response.count),
                    ms(response.p95, response.count),
                    ms(response.p99, response.count),
                    ms(response.p999, response.count),
                    ms(response.max, response.count),
                    ms(phase.end_to_end_us.p95, phase.end_to_end_us.count),
                    ms(phase.schedule_lag_us.p99, phase.schedule_lag_us.count),
                    count(phase.errors + phase.unknown),
                    load.to_owned(),
                ]);
            }
        }
        for (phase, rows) in by_phase {
            groups.push(TrialGroup {
                id: row_id(run, index, phase),
                subject: name(subject, palette),
                phase: phase.to_owned(),
                rows,
            });
        }
    }
    let head = [
        "Trial",
        "Offered /s",
        "Achieved /s",
        "Received /s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "End to end p95 ms",
        "Lag p99 ms",
        "Errors",
        "Load",
    ];
    Trials { head: head.map(str::to_owned).to_vec(), groups }
}

/// A figure with its unit for a chart's label.
pub(super) fn labelled(scale: Scale, interval: &crate::record::Interval) -> String {
    with_unit(&scale.figure(interval).value, scale.word)
}
