//! What the template of two runs side by side is filled with.

use serde::Serialize;

use super::{
    CHART_STYLE, RenderError, STYLE,
    axis::{Axis, latency_tick, rate_tick},
    canvas::Ink,
    curves::{self, Curve, Width},
    dots,
    page::{Chart, Section, Table, Variant, embedded, when},
    sections::{percentile_points, rarest},
    sheet::Caption,
    tables,
};
use crate::{
    answer::load_of,
    figures::{Figure, Scale},
    histograms::{Histograms, Kind},
    palette::Palette,
    record::{ComparisonVerdict, Run},
    statistics::{Metric, RunComparison, and, compare_runs},
    words,
};

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    title: String,
    headline: String,
    runs: Vec<RunHead>,
    differences: Vec<[String; 3]>,
    unmatched: Vec<String>,
    tables: Vec<PhaseTable>,
    sections: Vec<Section>,
    records: Vec<String>,
    style: String,
}

#[derive(Debug, Serialize)]
struct RunHead {
    letter: &'static str,
    id: String,
    when: String,
    command: String,
    partial: bool,
}

#[derive(Debug, Serialize)]
struct PhaseTable {
    phase: String,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    subject: String,
    place: u8,
    metric: &'static str,
    unit: &'static str,
    first: Figure,
    second: Figure,
    ratio: String,
    interval: Option<String>,
    state: tables::State,
}

impl Page {
    pub(super) fn of(first: (&Run, &Histograms), second: (&Run, &Histograms)) -> Result<Self, RenderError> {
        let (a, b) = (first.0, second.0);
        let palette = Palette::of([a, b]);
        let compared = compare_runs(a, b);
        let mut phases: Vec<&str> = Vec::new();
        for comparison in &compared {
            if !phases.contains(&comparison.phase.as_str()) {
                phases.push(&comparison.phase);
            }
        }
        let tables = phases
            .iter()
            .map(|phase| PhaseTable {
                phase: format!("{phase}: {}", load_of(a, phase)),
                rows: compared.iter().filter(|c| c.phase == *phase).map(|c| row(c, &palette)).collect(),
            })
            .collect();
        Ok(Self {
            title: format!("{} and {} · queuebench", a.id, b.id),
            headline: headline(&compared),
            runs: [("A", a), ("B", b)]
                .map(|(letter, run)| RunHead {
                    letter,
                    id: run.id.clone(),
                    when: when(&run.started_at),
                    command: run.command.clone(),
                    partial: run.partial,
                })
                .into(),
            differences: differences(a, b),
            unmatched: unmatched(a, b),
            tables,
            sections: sections(first, second, &compared, &phases, &palette)?,
            records: vec![embedded(a)?, embedded(b)?],
            style: format!("{CHART_STYLE}{STYLE}"),
        })
    }
}

/// What changed from the first run to the second, in one sentence per direction.
fn headline(compared: &[RunComparison]) -> String {
    if compared.is_empty() {
        return "These runs have no subject and phase in common.".to_owned();
    }
    let telling: Vec<&RunComparison> =
        compared.iter().filter(|c| matches!(c.metric, Metric::Throughput | Metric::ResponseP95)).collect();
    if telling.iter().all(|c| c.verdict == ComparisonVerdict::NotEnoughData) {
        return "Too few trials to tell these runs apart.".to_owned();
    }
    let of = |verdict: ComparisonVerdict| -> Vec<String> {
        let found = telling.iter().filter(|c| c.verdict == verdict);
        found.map(|c| format!("{} of {} in {}", c.metric.title(), c.subject, c.phase)).collect()
    };
    let said = [(ComparisonVerdict::Worse, "worse"), (ComparisonVerdict::Better, "better")]
        .into_iter()
        .filter_map(|(verdict, word)| {
            let found = of(verdict);
            let shown: Vec<&str> = found.iter().take(3).map(String::as_str).collect();
            let more = match found.len().saturating_sub(shown.len()) {
                0 => String::new(),
                more => format!(" ({more} more below)"),
            };
            (!found.is_empty()).then(|| format!("B is {word} in {}{more}.", and(&shown)))
        })
        .collect::<Vec<_>>();
    if said.is_empty() { "No difference between A and B could be shown.".to_owned() } else { said.join(" ") }
}

fn row(comparison: &RunComparison, palette: &Palette) -> Row {
    let medians = [comparison.first.median, comparison.second.median];
    let scale = Scale::of(comparison.metric.unit(), medians);
    Row {
        subject: comparison.subject.clone(),
        place: palette.place(&comparison.subject),
        metric: comparison.metric.title(),
        unit: scale.word,
        first: scale.figure(&comparison.first),
        second: scale.figure(&comparison.second),
        ratio: format!("{} ×", tables::ratio_text(comparison.ratio)),
        interval: comparison
            .ci95
            .map(|[low, high]| format!("{}–{}", tables::ratio_text(low), tables::ratio_text(high))),
        state: tables::comparison_state(comparison.verdict),
    }
}

/// What else than the subjects' behaviour may explain a difference.
fn differences(a: &Run, b: &Run) -> Vec<[String; 3]> {
    let mut found = Vec::new();
    let mut differ = |key: String, first: String, second: String| {
        if first != second {
            found.push([key, first, second]);
        }
    };
    let (of_a, of_b) = (tables::environment(a), tables::environment(b));
    let none = || "–".to_owned();
    let value = |facts: &[(String, String)], key: &str| {
        facts.iter().find(|(name, _)| name == key).map_or_else(none, |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> =
        of_a.iter().chain(&of_b).map(|(key, _)| key).filter(|key| *key != "Run").collect();
    keys.dedup();
    let mut seen: Vec<&String> = Vec::new();
    for key in keys {
        if !seen.contains(&key) {
            differ(key.clone(), value(&of_a, key), value(&of_b, key));
            seen.push(key);
        }
    }
    differ("Profile".to_owned(), a.profile.to_string(), b.profile.to_string());
    for first in &a.subjects {
        let Some(second) = b.subjects.iter().find(|other| other.name == first.name) else { continue };
        let name = &first.name;
        differ(format!("{name}: version"), first.version.clone(), second.version.clone());
        let how = |p| words::provisioner(p).to_owned();
        differ(format!("{name}: started"), how(first.provisioner), how(second.provisioner));
        let survives = |d| words::durability(d).to_owned();
        differ(format!("{name}: survives"), survives(first.durability), survives(second.durability));
        let mut keys: Vec<&String> = first.settings.keys().collect();
        keys.extend(second.settings.keys().filter(|key| !first.settings.contains_key(*key)));
        for key in keys {
            let text = |value: Option<&serde_json::Value>| value.map_or_else(none, ToString::to_string);
            differ(format!("{name}: {key}"), text(first.settings.get(key)), text(second.settings.get(key)));
        }
    }
    found
}

fn unmatched(a: &Run, b: &Run) -> Vec<String> {
    let only = |x: &Run, y: &Run, letter: &str| -> Vec<String> {
        let missing = x.subjects.iter().filter(|s| !y.subjects.iter().any(|other| other.name == s.name));
        missing.map(|subject| format!("{} is only in {letter}", subject.name)).collect()
    };
    [only(a, b, "A"), only(b, a, "B")].concat()
}

fn sections(
    first: (&Run, &Histograms),
    second: (&Run, &Histograms),
    compared: &[RunComparison],
    phases: &[&str],
    palette: &Palette,
) -> Result<Vec<Section>, RenderError> {
    /// Id, title, explanation, metric and the words at its ticks.
    type Wanted = (&'static str, &'static str, &'static str, Metric, fn(f64) -> String);
    let wanted: [Wanted; 2] = [
        (
            "response",
            "Response time, p95",
            "Each subject in both runs, with 95 % intervals. Lower is better.",
            Metric::ResponseP95,
            latency_tick,
        ),
        (
            "throughput",
            "Throughput",
            "Acknowledged messages per second. Higher is better.",
            Metric::Throughput,
            rate_tick,
        ),
    ];
    let mut sections = Vec::new();
    for (id, title, text, metric, tick) in wanted {
        let mut charts = Vec::new();
        for (index, phase) in phases.iter().enumerate() {
            let of_phase: Vec<&RunComparison> =
                compared.iter().filter(|c| c.phase == *phase && c.metric == metric).collect();
            if !of_phase.is_empty() {
                charts.push(dots_of(&format!("chart-{id}-{index}"), phase, &of_phase, palette, tick)?);
            }
        }
        let section = Section { id, title: title.to_owned(), text: text.to_owned(), layout: "three", charts };
        sections.push(section);
    }
    let mut charts = Vec::new();
    for (index, phase) in phases.iter().enumerate() {
        charts.extend(percentiles_of(index, phase, first, second, palette)?);
    }
    sections.push(Section {
        id: "percentiles",
        title: "By percentile".to_owned(),
        text: "All trials of a run together; A pale, B strong. Lower is better.".to_owned(),
        layout: "one",
        charts,
    });
    sections.retain(|section| !section.charts.is_empty());
    Ok(sections)
}

fn dots_of(
    id: &str,
    phase: &str,
    compared: &[&RunComparison],
    palette: &Palette,
    tick: fn(f64) -> String,
) -> Result<Chart, RenderError> {
    let medians = compared.iter().flat_map(|c| [c.first.median, c.second.median]);
    let metric = compared[0].metric;
    let scale = Scale::of(metric.unit(), medians);
    let rows: Vec<dots::Row> = compared
        .iter()
        .flat_map(|c| [("A", c.first, c), ("B", c.second, c)])
        .map(|(letter, interval, c)| dots::Row {
            name: format!("{} {letter}", c.subject),
            ink: Ink::Subject(palette.place(&c.subject)),
            text: tables::labelled(scale, &interval),
            interval: Some(interval),
        })
        .collect();
    let title = format!("{}, {phase}, both runs", metric.title());
    let description = "Two dots per subject, one for each run, with their 95 % intervals.";
    let svg =
        dots::draw(&Caption { id, title: &title, description }, &rows, Axis::of(dots::extent(&rows)), tick)?;
    let table = Table {
        caption: title.clone(),
        head: ["Subject and run", "Median"].map(str::to_owned).to_vec(),
        rows: rows.iter().map(|row| vec![row.name.clone(), row.text.clone()]).collect(),
    };
    Ok(Chart {
        caption: phase.to_owned(),
        variants: vec![Variant { id: id.to_owned(), class: "any", svg }],
        table,
    })
}

fn percentiles_of(
    index: usize,
    phase: &str,
    first: (&Run, &Histograms),
    second: (&Run, &Histograms),
    palette: &Palette,
) -> Result<Option<Chart>, RenderError> {
    let mut curves = Vec::new();
    let mut rows = Vec::new();
    let mut highest = 0.0_f64;
    for (letter, (run, histograms), opacity) in [("A", first, 0.45), ("B", second, 1.0)] {
        for subject in &run.subjects {
            let Some(merged) = histograms.merged(&subject.name, phase, Kind::Response) else { continue };
            let rarest = rarest(merged.len());
            highest = highest.max(rarest);
            let points = percentile_points(&merged, rarest);
            let name = format!("{} {letter}", subject.name);
            rows.push(vec![name.clone(), crate::figures::count(merged.len())]);
            let ink = Ink::Subject(palette.place(&subject.name));
            curves.push(Curve { name, ink, hollow: vec![false; points.len()], points, opacity });
        }
    }
    if curves.is_empty() {
        return Ok(None);
    }
    let title = format!("Response time by percentile, {phase}, both runs");
    let variants = Width::BOTH
        .into_iter()
        .map(|width| {
            let id = format!("chart-percentiles-{index}-{}", width.suffix());
            let caption =
                Caption { id: &id, title: &title, description: "Two curves per subject, one per run." };
            let svg = curves::percentiles(&caption, &curves, highest, width)?;
            Ok(Variant { id, class: width.suffix(), svg })
        })
        .collect::<Result<_, RenderError>>()?;
    let head = ["Subject and run", "Messages"].map(str::to_owned).to_vec();
    Ok(Some(Chart {
        caption: phase.to_owned(),
        variants,
        table: Table { caption: title.clone(), head, rows },
    }))
}
