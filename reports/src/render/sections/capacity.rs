//! Rate against latency, as a search for the highest rate saw it.

use super::{Sections, section};
use crate::{
    answer::slo_words,
    figures::{count, significant},
    gate::Slo,
    record::{CapacitySearch, Probe, ProbeKind},
    render::{
        RenderError,
        canvas::Ink,
        curves::{self, Curve, Width},
        page::{Chart, Section, Table, Variant},
        sheet::Caption,
    },
    statistics::{Metric, Unit},
};

impl Sections<'_> {
    pub(super) fn capacity(&self) -> Result<Option<Section>, RenderError> {
        let Some(search) = &self.run.capacity else { return Ok(None) };
        let (metric, limit_us) = shown(search);
        let curves: Vec<Curve> = search
            .subjects
            .iter()
            .map(|capacity| {
                let points = points(&capacity.probes, metric);
                Curve {
                    name: capacity.subject.clone(),
                    ink: Ink::Subject(self.palette.place(&capacity.subject)),
                    hollow: points.iter().map(|(_, _, holds)| !holds).collect(),
                    points: points.into_iter().map(|(rate, us, _)| (rate, us)).collect(),
                    opacity: 1.0,
                }
            })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        if curves.is_empty() {
            return Ok(None);
        }
        let title = format!("{} against offered rate", metric.title());
        let variants = Width::BOTH
            .into_iter()
            .map(|width| {
                let id = format!("chart-capacity-{}", width.suffix());
                let description = "One line per subject through the rates that were tried; hollow where the objective broke.";
                let caption = Caption { id: &id, title: &title, description };
                let svg = curves::rates(&caption, &curves, limit_us, width)?;
                Ok(Variant { id, class: width.suffix(), svg })
            })
            .collect::<Result<_, RenderError>>()?;
        let charts = vec![Chart { caption: String::new(), variants, table: table(search, metric) }];
        let text = format!(
            "Each point is a trial of its own at an offered rate, the median where a rate was tried again; {}, and \
             every message had to arrive. Hollow: it did not hold. A rate counts once most of {} further trials held \
             at it. Further right is better.",
            slo_words(search),
            search.confirmations
        );
        Ok(section("capacity", "Highest rate", &text, "one", charts))
    }
}

/// The latency that the chart shows: the first one that is limited, else p95.
fn shown(search: &CapacitySearch) -> (Metric, Option<f64>) {
    search
        .slo
        .iter()
        .filter_map(|text| text.parse::<Slo>().ok())
        .find(|slo| slo.metric().unit() == Unit::Microseconds && latency(slo.metric()).is_some())
        .map_or((Metric::ResponseP95, None), |slo| (slo.metric(), Some(slo.limit())))
}

/// Where a probe keeps a latency.
fn latency(metric: Metric) -> Option<fn(&Probe) -> f64> {
    Some(match metric {
        Metric::ResponseP50 => |p| p.response_us.p50,
        Metric::ResponseP95 => |p| p.response_us.p95,
        Metric::ResponseP99 => |p| p.response_us.p99,
        Metric::ResponseP999 => |p| p.response_us.p999,
        Metric::EndToEndP50 => |p| p.end_to_end_us.p50,
        Metric::EndToEndP95 => |p| p.end_to_end_us.p95,
        Metric::EndToEndP99 => |p| p.end_to_end_us.p99,
        _ => return None,
    })
}

/// (rate, latency, held) in order of rate; of a rate that was tried more than once the median, and whether most
/// trials held.
fn points(probes: &[Probe], metric: Metric) -> Vec<(f64, f64, bool)> {
    let Some(latency) = latency(metric) else { return Vec::new() };
    let mut probes: Vec<&Probe> = probes.iter().filter(|probe| latency(probe) > 0.0).collect();
    probes
        .sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s).then(latency(a).total_cmp(&latency(b))));
    probes
        .chunk_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s).is_eq())
        .map(|same| {
            let held = same.iter().filter(|probe| probe.holds).count();
            (same[0].offered_per_s, latency(same[same.len() / 2]), held * 2 > same.len())
        })
        .collect()
}

fn table(search: &CapacitySearch, metric: Metric) -> Table {
    let rows = search.subjects.iter().flat_map(|capacity| {
        capacity.probes.iter().map(|probe| {
            vec![
                capacity.subject.clone(),
                kind(probe.kind).to_owned(),
                significant(probe.offered_per_s, 4),
                significant(probe.achieved_per_s, 4),
                latency(metric).map_or_else(|| "–".to_owned(), |of| significant(of(probe) / 1e3, 3)),
                count(probe.lost),
                if probe.holds { "held".to_owned() } else { probe.reason.clone().unwrap_or_default() },
            ]
        })
    });
    let metric = format!("{} ms", metric.title());
    let head = ["Subject", "Step", "Offered/s", "Achieved/s", metric.as_str(), "Lost", "Objective"];
    Table {
        caption: "Every trial of the search".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn kind(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Growth => "growth",
        ProbeKind::Bisection => "bisection",
        ProbeKind::Confirmation => "confirmation",
    }
}
