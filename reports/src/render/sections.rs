//! The charts of the page, in the order in which a reader asks.

use hdrhistogram::Histogram;

use super::{
    RenderError,
    axis::{Axis, count_tick, latency_tick, mebibyte_tick, percent_tick, rate_tick, trimmed},
    canvas::Ink,
    curves::{self, Curve, Width},
    dots,
    page::{Chart, Section, Table, Variant},
    parts::{self, Part},
    sheet::Caption,
    tables,
    time::{self, Line, Panel},
};
use crate::{
    answer::{headline_phase, load_of, phases_of, throughput_phase},
    figures::{Scale, significant},
    histograms::{Histograms, Kind},
    palette::Palette,
    record::{Interval, LoadVerdict, Model, Run, Subject, Trial, Window},
    statistics::{Metric, Unit, measured_phases, plural},
    words::scale,
};

/// Rarest share of messages that the percentile curve shows, if so many were recorded.
const RAREST: f64 = 0.999_99;
/// Steps of the percentile curve between two powers of ten.
const STEPS_PER_DECADE: i32 = 24;

pub(super) fn all(
    run: &Run,
    histograms: &Histograms,
    palette: &Palette,
) -> Result<Vec<Section>, RenderError> {
    let sections = Sections { run, histograms, palette };
    let mut drawn: Vec<Section> = Vec::new();
    drawn.extend(sections.response()?);
    drawn.extend(sections.throughput()?);
    drawn.extend(sections.over_time()?);
    drawn.extend(sections.by_percentile()?);
    drawn.extend(sections.parts()?);
    drawn.extend(sections.by_rate()?);
    drawn.extend(sections.cost()?);
    drawn.extend(sections.cores()?);
    drawn.extend(sections.backlog()?);
    Ok(drawn)
}

struct Sections<'a> {
    run: &'a Run,
    histograms: &'a Histograms,
    palette: &'a Palette,
}

impl Sections<'_> {
    fn ink(&self, subject: &Subject) -> Ink {
        Ink::Subject(self.palette.place(&subject.name))
    }

    /// One picture with a dot per subject; `None` when no subject has the figure.
    fn dots(
        &self,
        id: &str,
        caption: String,
        phase: &str,
        metric: Metric,
        axis: Option<Axis>,
        tick: fn(f64) -> String,
    ) -> Result<Option<Chart>, RenderError> {
        let scale = scale(self.run, phase, &[metric]);
        let rows: Vec<dots::Row> = self
            .run
            .subjects
            .iter()
            .map(|subject| {
                let interval =
                    subject.summary.get(phase).and_then(|summary| summary.get(metric.key())).copied();
                let text = interval
                    .map_or_else(|| "not measured".to_owned(), |interval| tables::labelled(scale, &interval));
                // Bytes are drawn in the unit in which they are written, so that ticks are round there.
                let interval =
                    interval.map(|i| if metric.unit() == Unit::Bytes { in_unit(i, scale) } else { i });
                dots::Row { name: subject.name.clone(), ink: self.ink(subject), interval, text }
            })
            .collect();
        if rows.iter().all(|row| row.interval.is_none()) {
            return Ok(None);
        }
        let axis = axis.unwrap_or_else(|| Axis::of(dots::extent(&rows)));
        let title = format!("{}, {caption}", metric.title());
        let svg = dots::draw(
            &Caption { id, title: &title, description: "One dot per subject with its 95 % interval." },
            &rows,
            axis,
            tick,
        )?;
        let table = Table {
            caption: title.clone(),
            head: ["Subject", "Median", "95 % interval", "Trials"].map(str::to_owned).to_vec(),
            rows: rows
                .iter()
                .map(|row| {
                    let interval = self.interval_of(&row.name, phase, metric);
                    let bounds = interval.and_then(|interval| scale.figure(&interval).interval);
                    vec![
                        row.name.clone(),
                        row.text.clone(),
                        bounds.unwrap_or_else(|| "–".to_owned()),
                        interval.map_or(0, |interval| interval.trials).to_string(),
                    ]
                })
                .collect(),
        };
        let variants = vec![Variant { id: id.to_owned(), class: "any", svg }];
        Ok(Some(Chart { caption, variants, table }))
    }

    fn interval_of(&self, subject: &str, phase: &str, metric: Metric) -> Option<Interval> {
        let subject = self.run.subjects.iter().find(|candidate| candidate.name == subject)?;
        subject.summary.get(phase)?.get(metric.key()).copied()
    }

    /// The axis that some phases and metrics share.
    fn shared_axis(&self, phases: &[String], metrics: &[Metric]) -> Axis {
        let intervals = self.run.subjects.iter().flat_map(|subject| {
            let summaries = phases.iter().filter_map(|phase| subject.summary.get(phase));
            summaries.flat_map(|summary| metrics.iter().filter_map(|metric| summary.get(metric.key())))
        });
        Axis::of(intervals.flat_map(|interval| {
            let [low, high] = interval.ci95.unwrap_or([interval.median; 2]);
            [low, interval.median, high]
        }))
    }

    fn response(&self) -> Result<Option<Section>, RenderError> {
        let phases = measured_phases(self.run);
        let axis = self.shared_axis(&phases, &[Metric::ResponseP95]);
        let mut charts = Vec::new();
        for (index, phase) in phases.iter().enumerate() {
            let id = format!("chart-response-{index}");
            let caption = self.phase_caption(phase);
            let axis = Some(axis.clone());
            charts.extend(self.dots(&id, caption, phase, Metric::ResponseP95, axis, latency_tick)?);
        }
        Ok(section(
            "response",
            "Response time, p95",
            "From the moment a message was due until its acknowledgement, waiting in line included. Lower is \
             better. Bars are 95 % intervals over trials; all pictures share one scale.",
            "three",
            charts,
        ))
    }

    fn throughput(&self) -> Result<Option<Section>, RenderError> {
        let measured = measured_phases(self.run);
        let telling: Vec<String> = measured
            .iter()
            .filter(|name| {
                phases_of(self.run, name)
                    .any(|phase| phase.model == Model::Closed || phase.load_verdict != LoadVerdict::Ok)
            })
            .cloned()
            .collect();
        let mut text =
            "Messages per second, acknowledged to the producers and received by the consumers. Higher is \
                        better."
                .to_owned();
        let shown = if telling.is_empty() { measured.clone() } else { telling };
        if shown.len() < measured.len() {
            text.push_str(" Every subject carried the offered rate in the other phases.");
        }
        let mut charts = Vec::new();
        for (index, phase) in shown.iter().enumerate() {
            let caption = self.phase_caption(phase);
            let metrics = [(Metric::Throughput, "acknowledged"), (Metric::Received, "received")];
            let axis = self.shared_axis(std::slice::from_ref(phase), &metrics.map(|(metric, _)| metric));
            for (metric, word) in metrics {
                let id = format!("chart-throughput-{index}-{word}");
                let caption = format!("{caption}, {word}");
                charts.extend(self.dots(&id, caption, phase, metric, Some(axis.clone()), rate_tick)?);
            }
        }
        Ok(section("throughput", "Throughput", &text, "three", charts))
    }

    fn phase_caption(&self, phase: &str) -> String {
        let load = load_of(self.run, phase);
        if load.ends_with(phase) { phase.to_owned() } else { format!("{phase}: {load}") }
    }

    fn over_time(&self) -> Result<Option<Section>, RenderError> {
        let phase = headline_phase(self.run).or_else(|| throughput_phase(self.run));
        let shown = self.shown_trials(phase.as_deref());
        let lines = |subject: &Subject, trial: &Trial| {
            let ink = self.ink(subject);
            vec![
                Line::of(trial, |window| window.response_p50_us, ink, 1.2, 0.5),
                Line::of(trial, |window| window.response_p95_us, ink, 1.5, 0.75),
                Line::of(trial, |window| window.response_p99_us, ink, 1.9, 1.0),
            ]
        };
        let columns: [(&str, fn(&Window) -> Option<f64>); 3] = [
            ("p50 ms", |window| window.response_p50_us),
            ("p95 ms", |window| window.response_p95_us),
            ("p99 ms", |window| window.response_p99_us),
        ];
        let charts = self.panels(
            "time",
            "response time over time",
            &shown,
            lines,
            Axis::decades,
            latency_tick,
            (&columns, 1e3),
        )?;
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

    /// Of each subject the trial whose p95 in the phase is the middle one.
    fn shown_trials(&self, phase: Option<&str>) -> Vec<(&Subject, &Trial)> {
        self.run
            .subjects
            .iter()
            .filter_map(|subject| {
                let p95 = |trial: &Trial| {
                    let found = trial.phases.iter().find(|p| Some(p.name.as_str()) == phase);
                    found.map_or(0.0, |phase| phase.response_us.p95)
                };
                let mut trials: Vec<&Trial> =
                    subject.trials.iter().filter(|trial| !trial.series.windows.is_empty()).collect();
                trials.sort_by(|a, b| p95(a).total_cmp(&p95(b)));
                let middle = trials.len().checked_sub(1)? / 2;
                Some((subject, trials[middle]))
            })
            .collect()
    }

    /// Small multiples over time on one scale.
    #[expect(clippy::too_many_arguments, reason = "one caller's words and functions per series")]
    fn panels(
        &self,
        id: &str,
        what: &str,
        shown: &[(&Subject, &Trial)],
        lines: impl Fn(&Subject, &Trial) -> Vec<Line>,
        axis: fn(std::vec::IntoIter<f64>) -> Axis,
        tick: fn(f64) -> String,
        (columns, factor): (&[(&str, fn(&Window) -> Option<f64>)], f64),
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
        let axis = axis(values.into_iter());
        let end_s = |trial: &Trial| {
            let windows = trial.series.windows.last().map_or(0.0, |w| w.start_s + trial.series.window_s);
            trial.phases.iter().map(|phase| phase.end_s).fold(windows, f64::max)
        };
        let end_s = panels.iter().map(|(trial, _)| end_s(trial)).fold(0.0, f64::max);
        panels
            .iter()
            .enumerate()
            .map(|(index, (trial, panel))| {
                let id = format!("chart-{id}-{index}");
                let title = format!("{}: {what}", panel.name);
                let caption = Caption { id: &id, title: &title, description: &band_words(panel) };
                let svg = time::draw(&caption, panel, end_s, axis.clone(), tick)?;
                Ok(Chart {
                    caption: String::new(),
                    variants: vec![Variant { id: id.clone(), class: "any", svg }],
                    table: window_table(title.clone(), trial, columns, factor),
                })
            })
            .collect()
    }

    fn by_percentile(&self) -> Result<Vec<Section>, RenderError> {
        let phases = measured_phases(self.run);
        let first = headline_phase(self.run).or_else(|| phases.first().cloned());
        let first = first.and_then(|first| phases.iter().position(|phase| *phase == first)).unwrap_or(0);
        let mut large = Vec::new();
        let mut small = Vec::new();
        for (index, phase) in phases.iter().enumerate() {
            if index == first {
                large.extend(self.percentiles_of(index, phase, &Width::BOTH)?);
            } else {
                small.extend(self.percentiles_of(index, phase, &[Width::Narrow])?);
            }
        }
        let large = section(
            "percentiles",
            "By percentile",
            "Response time of all trials together: the share of messages on the bottom line was answered within the \
             time on the left. Each step to the right is ten times rarer. Lower is better.",
            "one",
            large,
        );
        let small = section("percentiles-others", "", "", "three", small);
        Ok(large.into_iter().chain(small).collect())
    }

    fn percentiles_of(
        &self,
        index: usize,
        phase: &str,
        widths: &[Width],
    ) -> Result<Option<Chart>, RenderError> {
        let merged: Vec<(&Subject, Histogram<u64>)> = self
            .run
            .subjects
            .iter()
            .filter_map(|subject| {
                Some((subject, self.histograms.merged(&subject.name, phase, Kind::Response)?))
            })
            .collect();
        let Some(most) = merged.iter().map(|(_, histogram)| histogram.len()).max() else { return Ok(None) };
        let highest = rarest(most);
        let curves: Vec<Curve> = merged
            .iter()
            .map(|(subject, histogram)| {
                let points = percentile_points(histogram, highest);
                let hollow = vec![false; points.len()];
                Curve { name: subject.name.clone(), ink: self.ink(subject), points, hollow, opacity: 1.0 }
            })
            .collect();
        let caption = self.phase_caption(phase);
        let title = format!("Response time by percentile, {caption}");
        let variants = widths
            .iter()
            .map(|width| {
                let id = format!("chart-percentiles-{index}-{}", width.suffix());
                let description =
                    "One curve per subject on an axis where each step to the right is ten times rarer.";
                let caption = Caption { id: &id, title: &title, description };
                let svg = curves::percentiles(&caption, &curves, highest, *width)?;
                let class = if widths.len() == 1 { "any" } else { width.suffix() };
                Ok(Variant { id, class, svg })
            })
            .collect::<Result<_, RenderError>>()?;
        let levels = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999];
        let mut head = vec!["Subject".to_owned(), "Messages".to_owned()];
        head.extend(levels.iter().map(|level| format!("{} ms", percent_tick(*level))));
        head.push("max ms".to_owned());
        let rows = merged
            .iter()
            .map(|(subject, histogram)| {
                let mut row = vec![subject.name.clone(), crate::figures::count(histogram.len())];
                row.extend(levels.iter().map(|level| {
                    // A percentile that no message stands for is not a measurement.
                    if *level > rarest(histogram.len()) { "–".to_owned() } else { ms_at(histogram, *level) }
                }));
                row.push(ms(histogram.max()));
                row
            })
            .collect();
        Ok(Some(Chart { caption, variants, table: Table { caption: title.clone(), head, rows } }))
    }

    fn parts(&self) -> Result<Option<Section>, RenderError> {
        let Some(phase) = headline_phase(self.run).or_else(|| throughput_phase(self.run)) else {
            return Ok(None);
        };
        let kinds = [
            ("response", Kind::Response),
            ("service", Kind::Service),
            ("lag", Kind::ScheduleLag),
            ("end to end", Kind::EndToEnd),
        ];
        let all: Vec<(&Subject, Vec<Part>)> = self
            .run
            .subjects
            .iter()
            .map(|subject| {
                let part = |(name, kind)| {
                    let merged = self.histograms.merged(&subject.name, &phase, kind);
                    Part { name, us: merged.map(|h| [0.5, 0.95, 0.99].map(|level| us_at(&h, level))) }
                };
                (subject, kinds.into_iter().map(part).collect::<Vec<_>>())
            })
            .filter(|(_, parts)| parts.iter().any(|part| part.us.is_some()))
            .collect();
        let axis =
            Axis::decades(all.iter().flat_map(|(_, parts)| parts).filter_map(|part| part.us).flatten());
        let mut charts = Vec::new();
        for (index, (subject, parts)) in all.iter().enumerate() {
            let id = format!("chart-parts-{index}");
            let title = format!("{}: response, service, lag and end to end", subject.name);
            let caption = Caption {
                id: &id,
                title: &title,
                description: "One bar per kind of latency from p50 to p99 with a dot at p95.",
            };
            let svg = parts::draw(&caption, &subject.name, self.ink(subject), parts, axis.clone())?;
            let rows = parts.iter().map(|part| {
                let figures = part.us.map_or_else(
                    || vec!["–".to_owned(); 3],
                    |us| us.map(|us| significant(us / 1e3, 3)).to_vec(),
                );
                [vec![part.name.to_owned()], figures].concat()
            });
            let head = ["Latency", "p50 ms", "p95 ms", "p99 ms"].map(str::to_owned).to_vec();
            charts.push(Chart {
                caption: String::new(),
                variants: vec![Variant { id: id.clone(), class: "any", svg }],
                table: Table { caption: title.clone(), head, rows: rows.collect() },
            });
        }
        Ok(section(
            "parts",
            "Where the time goes",
            &format!(
                "p50 to p99 with a dot at p95, {}. Response = due to acknowledged; service = sent to acknowledged; \
                 lag = due to sent, the harness's own share; end to end = due to the consumer's hands.",
                load_of(self.run, &phase)
            ),
            "four",
            charts,
        ))
    }

    fn by_rate(&self) -> Result<Option<Section>, RenderError> {
        let phases = measured_phases(self.run);
        let curves: Vec<Curve> = self
            .run
            .subjects
            .iter()
            .map(|subject| {
                let mut points: Vec<(f64, f64, bool)> = phases
                    .iter()
                    .filter_map(|name| {
                        let summary = subject.summary.get(name)?;
                        let rate = summary.get(Metric::Throughput.key())?.median;
                        let us = summary.get(Metric::ResponseP95.key())?.median;
                        let closed = phases_of(self.run, name).any(|phase| phase.model == Model::Closed);
                        Some((rate, us, closed))
                    })
                    .filter(|(rate, us, _)| *rate > 0.0 && *us > 0.0)
                    .collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                Curve {
                    name: subject.name.clone(),
                    ink: self.ink(subject),
                    points: points.iter().map(|(rate, us, _)| (*rate, *us)).collect(),
                    hollow: points.iter().map(|(_, _, closed)| *closed).collect(),
                    opacity: 1.0,
                }
            })
            .filter(|curve| curve.points.len() > 1)
            .collect();
        if curves.is_empty() {
            return Ok(None);
        }
        let title = "Response time p95 against rate";
        let variants = Width::BOTH
            .into_iter()
            .map(|width| {
                let id = format!("chart-rate-{}", width.suffix());
                let description = "One line per subject through its phases; hollow points are closed phases.";
                let svg = curves::rates(&Caption { id: &id, title, description }, &curves, width)?;
                Ok(Variant { id, class: width.suffix(), svg })
            })
            .collect::<Result<_, RenderError>>()?;
        let rows = curves.iter().flat_map(|curve| {
            curve
                .points
                .iter()
                .map(|(rate, us)| vec![curve.name.clone(), significant(*rate, 4), significant(us / 1e3, 3)])
        });
        let head = ["Subject", "Messages/s", "p95 ms"].map(str::to_owned).to_vec();
        let table = Table { caption: title.to_owned(), head, rows: rows.collect() };
        let charts = vec![Chart { caption: String::new(), variants, table }];
        Ok(section(
            "rate",
            "Rate against response time",
            "p95 at the rate that was carried; each point is a phase. Further right and lower is better. Hollow: a \
             closed phase, whose latency is that of the chosen number in flight.",
            "one",
            charts,
        ))
    }

    fn cost(&self) -> Result<Option<Section>, RenderError> {
        let Some(phase) = measured_phases(self.run).into_iter().next() else { return Ok(None) };
        let mut charts = Vec::new();
        let wanted: [(&str, &str, Metric, fn(f64) -> String); 2] = [
            ("chart-cpu", "CPU per acknowledged message", Metric::CpuPerMessage, latency_tick),
            ("chart-memory", "Highest resident memory", Metric::RssPeak, mebibyte_tick),
        ];
        for (id, caption, metric, tick) in wanted {
            charts.extend(self.dots(id, caption.to_owned(), &phase, metric, None, tick)?);
        }
        Ok(section(
            "cost",
            "What it costs",
            "CPU and memory of the subject's processes over a whole trial. Lower is better. An embedded subject's \
             figures contain the harness.",
            "three",
            charts,
        ))
    }

    fn cores(&self) -> Result<Option<Section>, RenderError> {
        let phase = headline_phase(self.run).or_else(|| throughput_phase(self.run));
        let shown = self.shown_trials(phase.as_deref());
        let lines = |subject: &Subject, trial: &Trial| {
            vec![
                Line::of(trial, |window| window.harness_cpu_cores, Ink::Neutral, 1.5, 1.0),
                Line::of(trial, |window| window.subject_cpu_cores, self.ink(subject), 1.8, 1.0),
            ]
        };
        let columns: [(&str, fn(&Window) -> Option<f64>); 2] = [
            ("subject, cores", |window| window.subject_cpu_cores),
            ("harness, cores", |window| window.harness_cpu_cores),
        ];
        let axis = |values: std::vec::IntoIter<f64>| Axis::linear(0.0, values.fold(0.5, f64::max) * 1.05);
        let charts =
            self.panels("cores", "cores in use over time", &shown, lines, axis, trimmed, (&columns, 1.0))?;
        let cores = plural(self.run.environment.cores as usize, "core");
        Ok(section(
            "cores",
            "Cores in use",
            &format!(
                "Of {cores}. Coloured: the subject; grey and dashed: the harness (with the subject, where that is \
                 embedded). When both together reach the machine's cores, they slow each other down."
            ),
            "four",
            charts,
        ))
    }

    fn backlog(&self) -> Result<Option<Section>, RenderError> {
        if !self.run.subjects.iter().flat_map(|s| &s.trials).any(|trial| trial.backlog.is_some()) {
            return Ok(None);
        }
        let shown = self.shown_trials(None);
        let count = |window: &Window| {
            #[expect(clippy::cast_precision_loss, reason = "messages of one run")]
            window.backlog.map(|messages| messages as f64)
        };
        let lines =
            |subject: &Subject, trial: &Trial| vec![Line::of(trial, count, self.ink(subject), 1.8, 1.0)];
        let columns: [(&str, fn(&Window) -> Option<f64>); 1] = [("waiting", |window| {
            #[expect(clippy::cast_precision_loss, reason = "messages of one run")]
            window.backlog.map(|messages| messages as f64)
        })];
        let axis = |values: std::vec::IntoIter<f64>| Axis::linear(0.0, values.fold(1.0, f64::max) * 1.05);
        let charts = self.panels(
            "backlog",
            "messages waiting over time",
            &shown,
            lines,
            axis,
            count_tick,
            (&columns, 1.0),
        )?;
        Ok(section(
            "backlog",
            "Backlog",
            "Messages sent and not yet received, while the consumers stand still and after they start.",
            "four",
            charts,
        ))
    }
}

fn section(
    id: &'static str,
    title: &str,
    text: &str,
    layout: &'static str,
    charts: Vec<Chart>,
) -> Option<Section> {
    (!charts.is_empty()).then(|| Section {
        id,
        title: title.to_owned(),
        text: text.to_owned(),
        layout,
        charts,
    })
}

fn in_unit(interval: Interval, scale: Scale) -> Interval {
    Interval {
        median: interval.median / scale.factor,
        ci95: interval.ci95.map(|ci95| ci95.map(|bound| bound / scale.factor)),
        ..interval
    }
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

fn window_table(
    caption: String,
    trial: &Trial,
    columns: &[(&str, fn(&Window) -> Option<f64>)],
    factor: f64,
) -> Table {
    let mut head = vec!["From s".to_owned()];
    head.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    let rows = trial
        .series
        .windows
        .iter()
        .map(|window| {
            let mut row = vec![trimmed(window.start_s)];
            row.extend(columns.iter().map(|(_, value)| {
                value(window).map_or_else(|| "–".to_owned(), |value| significant(value / factor, 3))
            }));
            row
        })
        .collect();
    Table { caption, head, rows }
}

/// The rarest quantile that at least one of so many values stands for.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 messages")]
pub(super) fn rarest(count: u64) -> f64 {
    (1.0 - 1.0 / count.max(2) as f64).min(RAREST)
}

pub(super) fn percentile_points(histogram: &Histogram<u64>, highest: f64) -> Vec<(f64, f64)> {
    let end = rarest(histogram.len()).min(highest);
    let mut points: Vec<(f64, f64)> = (0..)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(STEPS_PER_DECADE)))
        .take_while(|quantile| *quantile < end)
        .map(|quantile| (quantile, us_at(histogram, quantile)))
        .collect();
    points.push((end, us_at(histogram, end)));
    points
}

#[expect(clippy::cast_precision_loss, reason = "a latency past 2^53 ns is 104 days")]
fn us_at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

fn ms_at(histogram: &Histogram<u64>, quantile: f64) -> String {
    ms(histogram.value_at_quantile(quantile))
}

#[expect(clippy::cast_precision_loss, reason = "a latency past 2^53 ns is 104 days")]
fn ms(ns: u64) -> String {
    significant(ns as f64 / 1e6, 3)
}
