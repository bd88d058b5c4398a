//! Where the time goes: for one subject, each kind of latency as a bar from p50 to p99 with a dot at p95.

use plotters::style::text_anchor::HPos;

use super::{
    RenderError,
    axis::{Axis, latency_tick},
    canvas::Ink,
    dots::shortened,
    sheet::{Caption, Margin, Size, chart, text_width},
};
use crate::{figures::Scale, statistics::Unit};

const SIZE: Size = Size { width: 288, height: 158 };
const MARGIN: Margin = Margin { left: 88.0, right: 14.0, top: 22.0, bottom: 24.0 };
const ROW: f64 = 28.0;

/// One kind of latency.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// p50, p95 and p99 in microseconds; `None` when nothing was recorded.
    pub(super) us: Option<[f64; 3]>,
}

/// Draws one subject's parts on an axis that it shares with the others.
pub(super) fn draw(
    caption: &Caption<'_>,
    subject: &str,
    ink: Ink,
    parts: &[Part],
    axis: Axis,
) -> Result<String, RenderError> {
    chart(caption, SIZE, MARGIN, (axis, Axis::linear(0.0, 1.0)), |sheet| {
        sheet.x_axis(&sheet.x().ticks(4), latency_tick)?;
        sheet.words((MARGIN.left, 13.0), HPos::Left, ink, true, &shortened(subject, 190.0))?;
        let mut y = MARGIN.top + ROW / 2.0;
        for part in parts {
            sheet.words((MARGIN.left - 8.0, y + 4.0), HPos::Right, Ink::Dim, false, part.name)?;
            if let Some([p50, p95, p99]) = part.us {
                let [low, dot, high] = [p50, p95, p99].map(|us| sheet.x_of(us));
                sheet.segment_with((low, y), (high, y), ink, 4.0, 0.4)?;
                sheet.pixel_dot((dot, y), 4.0, ink)?;
                let text = Scale::alone(Unit::Microseconds, p95);
                if high + 8.0 + text_width(&text) <= sheet.right() + 12.0 {
                    sheet.words((high + 8.0, y + 4.0), HPos::Left, Ink::Text, false, &text)?;
                } else {
                    sheet.words((low - 8.0, y + 4.0), HPos::Right, Ink::Text, false, &text)?;
                }
            } else {
                sheet.words((MARGIN.left + 6.0, y + 4.0), HPos::Left, Ink::Dim, false, "not measured")?;
            }
            y += ROW;
        }
        Ok(())
    })
}
