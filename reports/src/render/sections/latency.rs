//! Latency in depth: by percentile, by part, by rate.

use hdrhistogram::Histogram;

use super::Sections;
use crate::{
    answer::{headline_phase, load_of, phases_of, throughput_phase},
    figures::significant,
    histograms::Kind,
    record::{Model, Subject},
    render::{
        RenderError,
        axis::{Axis, percent_tick},
        curves::{self, Curve, Width},
        page::{Chart, Section, Table, Variant},
        parts::{self, Part},
        sections::section,
        sheet::Caption,
    },
    statistics::{Metric, measured_phases},
};

/// Rarest share of messages that the percentile curve shows, if so many were recorded.
const RAREST: f64 = 0.999_99;
/// Steps of the percentile curve between two powers of ten.
const STEPS_PER_DECADE: i32 = 24;

impl Sections<'_> {
    pub(super) fn by_percentile(&self) -> Result<Vec<Section>, RenderError> {
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

    pub(super) fn parts(&self) -> Result<Option<Section>, RenderError> {
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

    pub(super) fn by_rate(&self) -> Result<Option<Section>, RenderError> {
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
                let svg = curves::rates(&Caption { id: &id, title, description }, &curves, None, width)?;
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
}

/// The rarest quantile that at least one of so many values stands for.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 messages")]
pub(in crate::render) fn rarest(count: u64) -> f64 {
    (1.0 - 1.0 / count.max(2) as f64).min(RAREST)
}

pub(in crate::render) fn percentile_points(histogram: &Histogram<u64>, highest: f64) -> Vec<(f64, f64)> {
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
