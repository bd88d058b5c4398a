//! Small multiples over time: one picture per subject, all on one scale, phases and faults as bands.

use plotters::style::text_anchor::HPos;

use super::{
    RenderError,
    axis::{Axis, trimmed},
    canvas::Ink,
    dots::shortened,
    sheet::{Caption, Margin, Sheet, Size, chart, text_width},
};
use crate::record::{Fault, Phase, Trial};

/// Width at which four fit beside each other on a wide page.
const SIZE: Size = Size { width: 288, height: 176 };
const MARGIN: Margin = Margin { left: 52.0, right: 12.0, top: 32.0, bottom: 22.0 };

/// One line over time.
pub(super) struct Line {
    /// Stretches without a gap.
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
    pub(super) ink: Ink,
    pub(super) width: f64,
    pub(super) opacity: f64,
}

impl Line {
    /// A line through the middle of each window; windows without a value leave a gap.
    pub(super) fn of(
        trial: &Trial,
        value: impl Fn(&crate::record::Window) -> Option<f64>,
        ink: Ink,
        width: f64,
        opacity: f64,
    ) -> Self {
        let half = trial.series.window_s / 2.0;
        let mut pieces = vec![Vec::new()];
        for window in &trial.series.windows {
            let value = value(window).filter(|value| value.is_finite());
            match (value, pieces.last_mut()) {
                (Some(value), Some(piece)) => piece.push((window.start_s + half, value)),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces, ink, width, opacity }
    }

    /// Every value of the line.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.pieces.iter().flatten().map(|(_, value)| *value)
    }
}

/// One picture.
pub(super) struct Panel<'a> {
    pub(super) name: &'a str,
    pub(super) ink: Ink,
    pub(super) lines: Vec<Line>,
    pub(super) phases: &'a [Phase],
    pub(super) faults: &'a [Fault],
}

/// Draws one picture on axes that it shares with the others.
pub(super) fn draw(
    caption: &Caption<'_>,
    panel: &Panel<'_>,
    end_s: f64,
    y: Axis,
    tick: fn(f64) -> String,
) -> Result<String, RenderError> {
    chart(caption, SIZE, MARGIN, (Axis::linear(0.0, end_s), y), |sheet| {
        bands(sheet, panel)?;
        sheet.y_axis(&sheet.y().ticks(5), tick)?;
        for seconds in sheet.x().ticks(4) {
            let word = format!("{} s", trimmed(seconds));
            let x = sheet.x_of(seconds);
            let x = x.min(f64::from(SIZE.width) - text_width(&word) / 2.0);
            sheet.words((x, sheet.bottom() + 17.0), HPos::Center, Ink::Dim, false, &word)?;
        }
        for line in &panel.lines {
            for piece in &line.pieces {
                sheet.curve(piece.clone(), line.ink, line.width, line.opacity)?;
            }
        }
        sheet.words((MARGIN.left, 12.0), HPos::Left, panel.ink, true, &shortened(panel.name, 200.0))
    })
}

/// Bands first, so that lines run over them; words where they fit.
fn bands(sheet: &Sheet<'_>, panel: &Panel<'_>) -> Result<(), RenderError> {
    let mut free_from = sheet.left();
    for phase in panel.phases {
        if !phase.measured {
            sheet.band(phase.start_s, phase.end_s, Ink::Phase)?;
        }
        let (from, to) = (sheet.x_of(phase.start_s), sheet.x_of(phase.end_s));
        sheet.segment((from, sheet.top() - 3.0), (from, sheet.bottom()), Ink::Grid, 1.0)?;
        let from = from.max(free_from) + 3.0;
        if to - from > 26.0 {
            // The estimate of a text's width is on the safe side.
            let word = shortened(&phase.name, (to - from) * 1.08);
            free_from = from + text_width(&word);
            sheet.words((from, sheet.top() - 5.0), HPos::Left, Ink::Dim, false, &word)?;
        }
    }
    for fault in panel.faults {
        let end_s = fault.end_s.unwrap_or(fault.start_s);
        sheet.band(fault.start_s, end_s, Ink::Fault)?;
        let from = sheet.x_of(end_s).max(sheet.x_of(fault.start_s) + 2.0) + 3.0;
        let width = text_width(&fault.kind);
        if from + width <= sheet.right() {
            sheet.words((from, sheet.bottom() - 6.0), HPos::Left, Ink::Text, false, &fault.kind)?;
        } else {
            let left = sheet.x_of(fault.start_s) - 3.0;
            sheet.words((left, sheet.bottom() - 6.0), HPos::Right, Ink::Text, false, &fault.kind)?;
        }
    }
    Ok(())
}
