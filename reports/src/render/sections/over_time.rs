//! What happened over time: small multiples of latency, cores and backlog.

use super::Sections;
use crate::{
    answer::{headline_phase, throughput_phase},
    figures::significant,
    record::{Subject, Trial, Window},
    render::{
        RenderError,
        axis::{Axis, count_tick, latency_tick, trimmed},
        canvas::Ink,
        page::{Chart, Section, Table, Variant},
        sections::section,
        sheet::Caption,
        time::{self, Line, Panel},
    },
    statistics::plural,
};

/// A figure of a window.
type Figure = fn(&Window) -> Option<f64>;

/// What the small multiples of one section have in common.
struct Theme<'a> {
    /// Part of the charts' ids.
    id: &'a str,
    /// What a chart shows, after the subject's name.
    what: &'a str,
    /// From all values to the shared axis.
    axis: fn(&[f64]) -> Axis,
    tick: fn(f64) -> String,
    /// Columns of the data tables.
    columns: &'a [(&'a str, Figure)],
    /// By which the tables' figures are divided.
    factor: f64,
}

const LATENCIES: [(&str, Figure); 3] = [
    ("p50 ms", |window| window.response_p50_us),
    ("p95 ms", |window| window.response_p95_us),
    ("p99 ms", |window| window.response_p99_us),
];
const CORES: [(&str, Figure); 2] = [
    ("subject, cores", |window| window.subject_cpu_cores),
    ("harness, cores", |window| window.harness_cpu_cores),
];
const WAITING: [(&str, Figure); 1] = [("waiting", waiting)];

#[expect(clippy::cast_precision_loss, reason = "messages of one run")]
fn waiting(window: &Window) -> Option<f64> {
    window.backlog.map(|messages| messages as f64)
}

/// From zero to a little above the highest value, and at least to `least`.
fn from_zero(values: &[f64], least: f64) -> Axis {
    Axis::linear(0.0, values.iter().copied().fold(least, f64::max) * 1.05)
}

impl Sections<'_> {
    pub(super) fn over_time(&self) -> Result<Option<Section>, RenderError> {
        let shown = self.shown_trials();
        let theme = Theme {
            id: "time",
            what: "response time over time",
            axis: |values| Axis::decades(values.iter().copied()),
            tick: latency_tick,
            columns: &LATENCIES,
            factor: 1e3,
        };
        let strokes = [(1.2, 0.5), (1.5, 0.75), (1.9, 1.0)];
        let charts = self.panels(&theme, &shown, |subject, trial| {
            let line = |((_, figure), (width, opacity)): (&(&str, Figure), _)| {
                Line::of(trial, figure, self.ink(subject), width, opacity)
            };
            LATENCIES.iter().zip(strokes).map(line).collect()
        })?;
        let window = shown.iter().map(|(_, trial)| trial.series.window_s).fold(0.0, f64::max);
        let which = match shown.iter().map(|(subject, _)| subject.trials.len()).max() {
            Some(trials) if trials > 1 => " Of each subject the trial with the middle p95 is shown.",
            _ => "",
        };
        Ok(section(
            "time",
            "Over time",
            &format!(
                "Response time p50, p95 and p99, light to strong, in windows of {} s, all on one scale. Grey bands \
                 do not count.{which}",
                trimmed(window)
            ),
            "four",
            charts,
        ))
    }

    pub(super) fn cores(&self) -> Result<Option<Section>, RenderError> {
        let theme = Theme {
            id: "cores",
            what: "cores in use over time",
            axis: |values| from_zero(values, 0.5),
            tick: trimmed,
            columns: &CORES,
            factor: 1.0,
        };
        let charts = self.panels(&theme, &self.shown_trials(), |subject, trial| {
            vec![
                Line::of(trial, |window| window.harness_cpu_cores, Ink::Neutral, 1.5, 1.0),
                Line::of(trial, |window| window.subject_cpu_cores, self.ink(subject), 1.8, 1.0),
            ]
        })?;
        Ok(section(
            "cores",
            "Cores in use",
            &format!(
                "Of {}. Coloured: the subject; grey and dashed: the harness (with the subject, where that is \
                 embedded). When both together reach the machine's cores, they slow each other down.",
                plural(self.run.environment.cores as usize, "core")
            ),
            "four",
            charts,
        ))
    }

    pub(super) fn backlog(&self) -> Result<Option<Section>, RenderError> {
        if !self.run.subjects.iter().flat_map(|s| &s.trials).any(|trial| trial.backlog.is_some()) {
            return Ok(None);
        }
        let theme = Theme {
            id: "backlog",
            what: "messages waiting over time",
            axis: |values| from_zero(values, 1.0),
            tick: count_tick,
            columns: &WAITING,
            factor: 1.0,
        };
        let charts = self.panels(&theme, &self.shown_trials(), |subject, trial| {
            vec![Line::of(trial, waiting, self.ink(subject), 1.8, 1.0)]
        })?;
        Ok(section(
            "backlog",
            "Backlog",
            "Messages sent and not yet received, while the consumers stand still and after they start.",
            "four",
            charts,
        ))
    }

    /// Of each subject the trial whose p95 in the headline phase is the middle one.
    fn shown_trials(&self) -> Vec<(&Subject, &Trial)> {
        let phase = headline_phase(self.run).or_else(|| throughput_phase(self.run));
        let p95 = |trial: &Trial| {
            let found = trial.phases.iter().find(|p| Some(&p.name) == phase.as_ref());
            found.map_or(0.0, |phase| phase.response_us.p95)
        };
        self.run
            .subjects
            .iter()
            .filter_map(|subject| {
                let mut trials: Vec<&Trial> =
                    subject.trials.iter().filter(|trial| !trial.series.windows.is_empty()).collect();
                trials.sort_by(|a, b| p95(a).total_cmp(&p95(b)));
                let last = trials.len().checked_sub(1)?;
                Some((subject, trials[last / 2]))
            })
            .collect()
    }

    /// Small multiples over time on one scale; none when no window has the figure.
    fn panels(
        &self,
        theme: &Theme<'_>,
        shown: &[(&Subject, &Trial)],
        lines: impl Fn(&Subject, &Trial) -> Vec<Line>,
    ) -> Result<Vec<Chart>, RenderError> {
        let panels: Vec<(&Trial, Panel<'_>)> = shown
            .iter()
            .map(|(subject, trial)| {
                let panel = Panel {
                    name: &subject.name,
                    ink: self.ink(subject),
                    lines: lines(subject, trial),
                    phases: &trial.phases,
                    faults: &trial.faults,
                };
                (*trial, panel)
            })
            .collect();
        let values: Vec<f64> =
            panels.iter().flat_map(|(_, panel)| &panel.lines).flat_map(Line::values).collect();
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let axis = (theme.axis)(&values);
        let end_s = panels.iter().map(|(trial, _)| end_of(trial)).fold(0.0, f64::max);
        let draw = |(index, (trial, panel)): (usize, &(&Trial, Panel<'_>))| {
            let id = format!("chart-{}-{index}", theme.id);
            let title = format!("{}: {}", panel.name, theme.what);
            let caption = Caption { id: &id, title: &title, description: &band_words(panel) };
            let svg = time::draw(&caption, panel, end_s, axis.clone(), theme.tick)?;
            let table = window_table(title, trial, theme);
            Ok(Chart { caption: String::new(), variants: vec![Variant { id, class: "any", svg }], table })
        };
        panels.iter().enumerate().map(draw).collect()
    }
}

/// Seconds from a trial's start to its last phase or window.
fn end_of(trial: &Trial) -> f64 {
    let windows = trial.series.windows.last().map_or(0.0, |w| w.start_s + trial.series.window_s);
    trial.phases.iter().map(|phase| phase.end_s).fold(windows, f64::max)
}

/// Phases and faults in words, for those who do not see the bands.
fn band_words(panel: &Panel<'_>) -> String {
    let phases = panel
        .phases
        .iter()
        .map(|phase| format!("{} from {} to {} s", phase.name, trimmed(phase.start_s), trimmed(phase.end_s)));
    let faults = panel
        .faults
        .iter()
        .map(|fault| format!("{} of {} at {} s", fault.kind, fault.target, trimmed(fault.start_s)));
    format!("Phases: {}.", phases.chain(faults).collect::<Vec<_>>().join("; "))
}

fn window_table(caption: String, trial: &Trial, theme: &Theme<'_>) -> Table {
    let mut head = vec!["From s".to_owned()];
    head.extend(theme.columns.iter().map(|(name, _)| (*name).to_owned()));
    let rows = trial
        .series
        .windows
        .iter()
        .map(|window| {
            let mut row = vec![trimmed(window.start_s)];
            row.extend(theme.columns.iter().map(|(_, figure)| {
                figure(window).map_or_else(|| "–".to_owned(), |value| significant(value / theme.factor, 3))
            }));
            row
        })
        .collect();
    Table { caption, head, rows }
}
