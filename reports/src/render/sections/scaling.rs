//! Throughput by number of processors, with the fitted law and the p95 of each count.

use plotters::style::text_anchor::HPos;

use super::{Sections, section};
use crate::{
    answer::load_of,
    figures::{rate, significant},
    render::{
        RenderError,
        axis::{Axis, rate_tick, trimmed},
        canvas::Ink,
        curves::Width,
        page::{Chart, Section, Table, Variant},
        sheet::{Caption, Margin, Sheet, Size, chart},
    },
    scaling::{Scaling, scalings},
};

/// Points of the drawn law.
const STEPS: u32 = 60;

impl Sections<'_> {
    pub(super) fn scaling(&self) -> Result<Option<Section>, RenderError> {
        let scalings = scalings(self.run);
        let mut charts = Vec::new();
        for (index, scaling) in scalings.iter().enumerate() {
            charts.push(self.scaling_chart(index, scaling)?);
        }
        let mut text =
            "Messages per second by number of processors that share the work: dots are measured, each with \
                        its p95 response time, the line is the universal scalability law fitted to them. "
                .to_owned();
        text.push_str(&scalings.iter().map(Scaling::words).collect::<Vec<_>>().join(" "));
        Ok(section("scaling", "Scaling", &text, "one", charts))
    }

    fn scaling_chart(&self, index: usize, scaling: &Scaling) -> Result<Chart, RenderError> {
        let last = scaling.points.last().map(|point| point.subject.clone()).unwrap_or_default();
        let ink = Ink::Subject(self.palette.place(&last));
        let title = format!("{}: throughput by processors", scaling.backend);
        let description = "One dot per number of processors, labelled with its p95 response time; the fitted \
                           universal scalability law as a line.";
        let variants = Width::BOTH
            .into_iter()
            .map(|width| {
                let id = format!("chart-scaling-{index}-{}", width.suffix());
                let svg = draw(&Caption { id: &id, title: &title, description }, scaling, ink, width)?;
                Ok(Variant { id, class: width.suffix(), svg })
            })
            .collect::<Result<_, RenderError>>()?;
        let caption = format!("{}, {}", scaling.backend, load_of(self.run, &scaling.phase));
        Ok(Chart { caption, variants, table: table(scaling, title) })
    }
}

fn draw(caption: &Caption<'_>, scaling: &Scaling, ink: Ink, width: Width) -> Result<String, RenderError> {
    let size = match width {
        Width::Wide => Size { width: 1080, height: 320 },
        Width::Narrow => Size { width: 344, height: 280 },
    };
    let most = f64::from(scaling.points.last().map_or(1, |point| point.processors));
    let fitted: Vec<(f64, f64)> = scaling.law.map_or_else(Vec::new, |law| {
        let at = |step: u32| 1.0 + (most - 1.0) * f64::from(step) / f64::from(STEPS);
        (0..=STEPS).map(|step| (at(step), law.at(at(step)))).collect()
    });
    let highest =
        scaling.points.iter().map(|p| p.per_s).chain(fitted.iter().map(|(_, x)| *x)).fold(0.0, f64::max);
    let axes = (Axis::linear(0.0, most * 1.08), Axis::linear(0.0, highest * 1.25));
    let margin = Margin { left: 58.0, right: 24.0, top: 10.0, bottom: 24.0 };
    chart(caption, size, margin, axes, |sheet: &Sheet<'_>| {
        let counts: Vec<f64> = scaling.points.iter().map(|point| f64::from(point.processors)).collect();
        sheet.x_axis(&counts, trimmed)?;
        sheet.y_axis(&sheet.y().ticks(5), rate_tick)?;
        if !fitted.is_empty() {
            sheet.curve(fitted, ink, 1.5, 0.6)?;
        }
        for point in &scaling.points {
            let at = (f64::from(point.processors), point.per_s);
            sheet.dot(at, 4.5, ink)?;
            if let Some(p95_us) = point.p95_us {
                let above = (sheet.x_of(at.0), sheet.y_of(at.1) - 10.0);
                let text = format!("p95 {} ms", significant(p95_us / 1e3, 2));
                sheet.words(above, HPos::Center, Ink::Text, false, &text)?;
            }
        }
        Ok(())
    })
}

fn table(scaling: &Scaling, caption: String) -> Table {
    let one = scaling.points.first().map(|point| (point.per_s, f64::from(point.processors)));
    let rows = scaling.points.iter().map(|point| {
        let n = f64::from(point.processors);
        // Against as many times the smallest count.
        let efficiency = one.map_or(1.0, |(per_s, count)| point.per_s / per_s / (n / count));
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        vec![
            point.processors.to_string(),
            rate(point.per_s),
            or_dash(scaling.law.map(|law| rate(law.at(n)))),
            format!("{:.0} %", efficiency * 100.0),
            or_dash(point.p95_us.map(|us| format!("{} ms", significant(us / 1e3, 3)))),
            or_dash(point.cores_used.map(|used| significant(used, 2))),
        ]
    });
    Table {
        caption,
        head: ["Processors", "Messages/s", "By the law", "Efficiency", "p95", "Cores busy"]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
    }
}
