//! Curves with their names at the right end: latency by percentile, latency by rate.

use plotters::style::text_anchor::HPos;

use super::{
    RenderError,
    axis::{Axis, latency_tick, percent_tick, rate_tick},
    canvas::Ink,
    dots::shortened,
    sheet::{Caption, Margin, Sheet, Size, chart, spread_labels, text_width},
};

/// Distance of two labels.
const LABEL_GAP: f64 = 15.0;

/// For which page a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Wide,
    Narrow,
}

impl Width {
    pub(super) const BOTH: [Self; 2] = [Self::Wide, Self::Narrow];

    fn size(self) -> Size {
        match self {
            Self::Wide => Size { width: 1080, height: 360 },
            Self::Narrow => Size { width: 344, height: 300 },
        }
    }

    fn label_max(self) -> f64 {
        match self {
            Self::Wide => 150.0,
            Self::Narrow => 84.0,
        }
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}

/// One subject's curve; a point is hollow when it belongs to a closed phase.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) ink: Ink,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) hollow: Vec<bool>,
    pub(super) opacity: f64,
}

/// Latency against percentile; points are (quantile, µs).
pub(super) fn percentiles(
    caption: &Caption<'_>,
    curves: &[Curve],
    highest: f64,
    width: Width,
) -> Result<String, RenderError> {
    let y = Axis::decades(curves.iter().flat_map(|curve| &curve.points).map(|(_, us)| *us));
    let axes = (Axis::percentiles(highest), y);
    chart(caption, width.size(), margin(curves, width), axes, |sheet| {
        sheet.x_axis(&sheet.x().ticks(8), percent_tick)?;
        sheet.y_axis(&sheet.y().ticks(7), latency_tick)?;
        for curve in curves {
            sheet.curve(curve.points.clone(), curve.ink, 2.0, curve.opacity)?;
        }
        labels(sheet, curves, width)
    })
}

/// Latency against rate; points are (messages per second, µs). `limit_us` is drawn across, if given.
pub(super) fn rates(
    caption: &Caption<'_>,
    curves: &[Curve],
    limit_us: Option<f64>,
    width: Width,
) -> Result<String, RenderError> {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let latencies = all().map(|(_, us)| *us).chain(limit_us);
    let axes = (Axis::of(all().map(|(rate, _)| *rate)), Axis::decades(latencies));
    chart(caption, width.size(), margin(curves, width), axes, |sheet| {
        let most = if width == Width::Wide { 8 } else { 4 };
        sheet.x_axis(&sheet.x().ticks(most), rate_tick)?;
        sheet.y_axis(&sheet.y().ticks(7), latency_tick)?;
        if let Some(limit) = limit_us {
            let y = sheet.y_of(limit);
            sheet.segment((sheet.left(), y), (sheet.right(), y), Ink::Neutral, 1.5)?;
            let words = format!("objective {}", latency_tick(limit));
            sheet.words((sheet.left() + 6.0, y - 6.0), HPos::Left, Ink::Text, false, &words)?;
        }
        for curve in curves {
            sheet.curve(curve.points.clone(), curve.ink, 1.5, 0.6)?;
            for (point, hollow) in curve.points.iter().zip(&curve.hollow) {
                if *hollow {
                    sheet.ring(*point, 4.5, curve.ink)?;
                } else {
                    sheet.dot(*point, 4.5, curve.ink)?;
                }
            }
        }
        labels_at_points(sheet, curves, width)
    })
}

fn margin(curves: &[Curve], width: Width) -> Margin {
    let widest = curves.iter().map(|curve| text_width(&curve.name)).fold(0.0, f64::max);
    Margin { left: 58.0, right: widest.min(width.label_max()) + 16.0, top: 10.0, bottom: 24.0 }
}

/// Names at the right edge at the height of each curve's end, apart, tied to it by a thin line where one had to move.
fn labels(sheet: &Sheet<'_>, curves: &[Curve], width: Width) -> Result<(), RenderError> {
    let ends = ends(sheet, curves);
    let wished: Vec<f64> = ends.iter().map(|(_, _, y)| *y).collect();
    let placed = spread_labels(&wished, LABEL_GAP, sheet.top() + 4.0, sheet.bottom());
    for ((curve, x, y), label) in ends.into_iter().zip(placed) {
        if (label - y).abs() > 3.0 {
            sheet.segment_with((x + 2.0, y), (sheet.right() + 7.0, label), curve.ink, 1.0, 0.5)?;
        }
        let name = shortened(&curve.name, width.label_max());
        sheet.words((sheet.right() + 9.0, label + 4.0), HPos::Left, curve.ink, true, &name)?;
    }
    Ok(())
}

/// Names beside the last point of each curve, moved down where another name is in the way.
fn labels_at_points(sheet: &Sheet<'_>, curves: &[Curve], width: Width) -> Result<(), RenderError> {
    let mut ends = ends(sheet, curves);
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    for (curve, x, y) in ends {
        let name = shortened(&curve.name, width.label_max());
        let (from, to) = (x + 9.0, x + 9.0 + text_width(&name));
        let mut label = y;
        for (other_from, other_to, other) in &taken {
            if from < *other_to && *other_from < to {
                label = label.max(other + LABEL_GAP);
            }
        }
        taken.push((from, to, label));
        sheet.words((from, label + 4.0), HPos::Left, curve.ink, true, &name)?;
    }
    Ok(())
}

/// Where each curve ends, in pixels.
fn ends<'c>(sheet: &Sheet<'_>, curves: &'c [Curve]) -> Vec<(&'c Curve, f64, f64)> {
    let end = |curve: &'c Curve| curve.points.last().map(|(x, y)| (curve, sheet.x_of(*x), sheet.y_of(*y)));
    curves.iter().filter_map(end).collect()
}
