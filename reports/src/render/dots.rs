//! One row per subject: a dot with its interval on a shared axis.

use plotters::style::text_anchor::HPos;

use super::{
    RenderError,
    axis::Axis,
    canvas::Ink,
    sheet::{Caption, Margin, Sheet, Size, chart, text_width},
};
use crate::record::Interval;

/// Width at which a third of a wide page and a whole phone show 12 px text at 12 px or a little more.
pub(super) const WIDTH: u32 = 344;
const ROW: f64 = 27.0;

/// One row.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) ink: Ink,
    /// `None` when the subject has no such figure.
    pub(super) interval: Option<Interval>,
    /// The figure as written beside the dot.
    pub(super) text: String,
}

/// Every value that the axis has to hold.
pub(super) fn extent(rows: &[Row]) -> impl Iterator<Item = f64> {
    rows.iter()
        .filter_map(|row| row.interval.as_ref())
        .flat_map(|interval| {
            [Some(interval.median), interval.ci95.map(|c| c[0]), interval.ci95.map(|c| c[1])]
        })
        .flatten()
}

/// Draws the rows.
pub(super) fn draw(
    caption: &Caption<'_>,
    rows: &[Row],
    axis: Axis,
    tick: fn(f64) -> String,
) -> Result<String, RenderError> {
    let label = rows.iter().map(|row| text_width(&row.name)).fold(0.0, f64::max).clamp(40.0, 130.0);
    #[expect(clippy::cast_precision_loss, reason = "a handful of subjects")]
    let rows_high = rows.len() as f64 * ROW;
    let margin = Margin { left: label + 12.0, right: 14.0, top: 4.0, bottom: 24.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred pixels")]
    let size = Size { width: WIDTH, height: (rows_high + margin.top + margin.bottom) as u32 };
    chart(caption, size, margin, (axis, Axis::linear(0.0, 1.0)), |sheet| {
        sheet.x_axis(&sheet.x().ticks(4), tick)?;
        let mut y = margin.top + ROW / 2.0;
        for row in rows {
            draw_row(sheet, row, y)?;
            y += ROW;
        }
        Ok(())
    })
}

fn draw_row(sheet: &Sheet<'_>, row: &Row, y: f64) -> Result<(), RenderError> {
    let fits = sheet.left() - 10.0;
    sheet.words((fits, y + 4.0), HPos::Right, Ink::Text, true, &shortened(&row.name, fits))?;
    let Some(interval) = row.interval else {
        return sheet.words((sheet.left() + 6.0, y + 4.0), HPos::Left, Ink::Dim, false, &row.text);
    };
    let x = sheet.x_of(interval.median);
    let [low, high] = interval.ci95.unwrap_or([interval.median; 2]).map(|value| sheet.x_of(value));
    if interval.ci95.is_some() {
        sheet.segment_with((low, y), (high, y), row.ink, 4.0, 0.45)?;
        for end in [low, high] {
            sheet.segment((end, y - 4.0), (end, y + 4.0), row.ink, 1.5)?;
        }
    }
    sheet.pixel_dot((x, y), 5.0, row.ink)?;
    let right = high.max(x) + 10.0;
    if right + text_width(&row.text) <= sheet.right() + 12.0 {
        sheet.words((right, y + 4.0), HPos::Left, Ink::Text, false, &row.text)
    } else {
        sheet.words((low.min(x) - 10.0, y + 4.0), HPos::Right, Ink::Text, false, &row.text)
    }
}

/// A name cut to a width.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen characters")]
pub(super) fn shortened(name: &str, width: f64) -> String {
    if text_width(name) <= width {
        return name.to_owned();
    }
    let room = (width / text_width("m")).max(2.0) as usize;
    name.chars().take(room - 1).chain(['…']).collect()
}
