//! What the template of a single run is filled with.

use serde::Serialize;

use super::{CHART_STYLE, RenderError, STYLE, sections, tables};
use crate::{
    answer::{self, answer},
    histograms::Histograms,
    palette::Palette,
    record::{Provisioner, Run},
    statistics::{WarningCode, plural},
};

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    title: String,
    crumbs: Vec<String>,
    pub(super) headline: String,
    details: Vec<String>,
    meta: Vec<String>,
    partial: bool,
    answer_table: tables::Answer,
    interval_note: String,
    limits: Vec<Note>,
    notes: Vec<Note>,
    pub(super) sections: Vec<Section>,
    gates: Option<tables::Gates>,
    pairs: tables::Pairs,
    ledger: tables::Ledger,
    backlog: Option<Table>,
    settings: Vec<tables::Settings>,
    environment: Vec<(String, String)>,
    own_cost: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
    trials: tables::Trials,
    profile: String,
    command: String,
    record: String,
    style: String,
}

/// A warning as shown.
#[derive(Debug, Serialize)]
pub(super) struct Note {
    title: String,
    code: String,
    text: String,
}

/// A heading, what is measured from where to where, and its charts.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) id: &'static str,
    pub(super) title: String,
    pub(super) text: String,
    /// `two`, `three`, `four` or `one` beside each other on a wide page.
    pub(super) layout: &'static str,
    pub(super) charts: Vec<Chart>,
}

/// A chart in the variants for different widths, and its data.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    pub(super) caption: String,
    pub(super) variants: Vec<Variant>,
    pub(super) table: Table,
}

/// A chart for one width of the page.
#[derive(Debug, Serialize)]
pub(super) struct Variant {
    pub(super) id: String,
    /// `wide`, `narrow` or `any`.
    pub(super) class: &'static str,
    pub(super) svg: String,
}

/// A plain table: the first column names the row.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Page {
    pub(super) fn of(run: &Run, histograms: &Histograms) -> Result<Self, RenderError> {
        let palette = Palette::of([run]);
        let answer = answer(run);
        let (limits, notes) = notes(run);
        let name = run.profile_name();
        let compared =
            if run.compared.is_empty() { "run".to_owned() } else { format!("compare {}", run.compared) };
        Ok(Self {
            title: format!("{compared} · {name} · queuebench"),
            crumbs: vec!["queuebench".to_owned(), compared, name.to_owned()],
            headline: answer.headline,
            details: answer.details,
            meta: meta(run),
            partial: run.partial,
            answer_table: tables::answer(run, &palette),
            interval_note: interval_note(run),
            limits,
            notes,
            sections: sections::all(run, histograms, &palette)?,
            gates: tables::gates(run),
            pairs: tables::pairs(run, &palette),
            ledger: tables::ledger(run, &palette),
            backlog: tables::backlog(run),
            settings: tables::settings(run, &palette),
            environment: tables::environment(run),
            own_cost: tables::own_cost(run),
            skipped: run.skipped.iter().map(|s| (s.subject.clone(), s.reason.clone())).collect(),
            trials: tables::trials(run, &palette),
            profile: serde_json::to_string_pretty(&run.profile)?,
            command: run.command.clone(),
            record: embedded(run)?,
            style: format!("{CHART_STYLE}{STYLE}"),
        })
    }
}

/// The record as JSON inside a script element: nothing in it can end the element.
pub(super) fn embedded(run: &Run) -> Result<String, RenderError> {
    let json = serde_json::to_string(run)?;
    Ok(json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

fn notes(run: &Run) -> (Vec<Note>, Vec<Note>) {
    let mut limits = Vec::new();
    let mut others = Vec::new();
    for warning in &run.warnings {
        let code: Option<WarningCode> = warning.code.parse().ok();
        let note = Note {
            title: code.map_or_else(|| warning.code.replace('-', " "), |code| code.title().to_owned()),
            code: warning.code.clone(),
            text: warning.text.clone(),
        };
        // A code this version does not know may well be weighty.
        if code.is_none_or(WarningCode::limits_comparison) { limits.push(note) } else { others.push(note) }
    }
    (limits, others)
}

fn meta(run: &Run) -> Vec<String> {
    let mut meta = Vec::new();
    let trials = run.subjects.iter().map(|subject| subject.trials.len()).max().unwrap_or(0);
    meta.push(if trials > 1 { format!("{trials} interleaved trials") } else { plural(trials, "trial") });
    meta.push(plural(run.subjects.len(), "subject"));
    let environment = &run.environment;
    meta.push(format!(
        "{}, {}",
        plural(environment.cores as usize, "core"),
        tables::gib(environment.memory_bytes)
    ));
    meta.push(when(&run.started_at));
    if let Some(took) = duration(run) {
        meta.push(took);
    }
    meta.push(delivery_in_words(run));
    meta
}

fn delivery_in_words(run: &Run) -> String {
    let lost: u64 = run.subjects.iter().flat_map(|s| &s.trials).map(|trial| trial.delivery.lost).sum();
    match lost {
        0 => "nothing acknowledged was lost".to_owned(),
        lost => format!("{} acknowledged messages were lost", crate::figures::count(lost)),
    }
}

/// `20 Nov 2026 10:42 UTC`, or as recorded when it is no time.
pub(super) fn when(stamp: &str) -> String {
    stamp
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| stamp.to_owned(), |time| time.strftime("%-d %b %Y %H:%M UTC").to_string())
}

fn duration(run: &Run) -> Option<String> {
    let start: jiff::Timestamp = run.started_at.parse().ok()?;
    let end: jiff::Timestamp = run.finished_at.as_ref()?.parse().ok()?;
    let seconds = end.duration_since(start).as_secs();
    Some(match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    })
}

fn interval_note(run: &Run) -> String {
    let trials = run.subjects.iter().map(|subject| subject.trials.len()).min().unwrap_or(0);
    let mut note = match trials {
        0..3 => "Medians over trials, without intervals: those need three trials.".to_owned(),
        3..6 => format!(
            "Medians over {trials} trials; below each its 95 % bootstrap interval, which with so few trials is the \
             range from the lowest to the highest."
        ),
        _ => format!("Medians over {trials} trials; below each its 95 % bootstrap interval."),
    };
    if let Some(phase) = answer::headline_phase(run) {
        note.push_str(&format!(
            " Response time runs from the moment a message was due to its acknowledgement, {}.",
            { answer::load_of(run, &phase) }
        ));
    }
    if run.subjects.iter().any(|subject| subject.provisioner == Provisioner::Embedded) {
        note.push_str(" CPU and memory of an embedded subject contain the harness.");
    }
    note
}
