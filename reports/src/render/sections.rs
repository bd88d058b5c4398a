//! The charts of the page, in the order in which a reader asks.

use super::{
    RenderError,
    axis::{Axis, latency_tick, mebibyte_tick, rate_tick},
    canvas::Ink,
    dots,
    page::{Chart, Section, Table, Variant},
    sheet::Caption,
    tables,
};
use crate::{
    answer::{load_of, phases_of},
    figures::Scale,
    histograms::Histograms,
    palette::Palette,
    record::{Interval, LoadVerdict, Model, Run, Subject},
    statistics::{Metric, Unit, measured_phases},
    words::scale,
};

mod capacity;
mod deaths;
mod latency;
mod over_time;
mod scaling;

pub(super) use latency::{percentile_points, rarest};

/// Words at the ticks of an axis.
type Tick = fn(f64) -> String;

pub(super) fn all(
    run: &Run,
    histograms: &Histograms,
    palette: &Palette,
) -> Result<Vec<Section>, RenderError> {
    let sections = Sections { run, histograms, palette };
    let mut drawn: Vec<Section> = Vec::new();
    drawn.extend(sections.capacity()?);
    drawn.extend(sections.response()?);
    drawn.extend(sections.throughput()?);
    drawn.extend(sections.deaths()?);
    drawn.extend(sections.scaling()?);
    drawn.extend(sections.over_time()?);
    drawn.extend(sections.by_percentile()?);
    drawn.extend(sections.parts()?);
    if run.capacity.is_none() {
        drawn.extend(sections.by_rate()?);
    }
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
        tick: Tick,
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
        // What was acknowledged and what was received of one phase stand beside each other.
        Ok(section("throughput", "Throughput", &text, "two", charts))
    }

    fn phase_caption(&self, phase: &str) -> String {
        let load = load_of(self.run, phase);
        if load.ends_with(phase) { phase.to_owned() } else { format!("{phase}: {load}") }
    }

    fn cost(&self) -> Result<Option<Section>, RenderError> {
        let Some(phase) = measured_phases(self.run).into_iter().next() else { return Ok(None) };
        let mut charts = Vec::new();
        let wanted: [(&str, &str, Metric, Tick); 2] = [
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
