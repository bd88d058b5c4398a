//! One chart being drawn: a plotters area with two axes, and helpers for marks and words.

use plotters::{
    coord::{Shift, cartesian::Cartesian2d},
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::{Circle, PathElement, Rectangle},
    style::{
        FontStyle, IntoTextStyle as _, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    RenderError,
    axis::Axis,
    canvas::{Canvas, FINE, Ink, escape},
};

/// Size of a chart in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

/// What a chart is called and where its words are.
#[derive(Clone, Debug)]
pub(super) struct Caption<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
}

/// Inner margins in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// A chart being drawn.
pub(super) struct Sheet<'a> {
    root: DrawingArea<Canvas<'a>, Shift>,
    plot: DrawingArea<Canvas<'a>, Cartesian2d<Axis, Axis>>,
    x: Axis,
    y: Axis,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Draws a chart and returns it as one `svg` element.
pub(super) fn chart(
    caption: &Caption<'_>,
    size: Size,
    margin: Margin,
    (x, y): (Axis, Axis),
    draw: impl FnOnce(&Sheet<'_>) -> Result<(), RenderError>,
) -> Result<String, RenderError> {
    let mut inside = String::new();
    {
        let root =
            Canvas::new(&mut inside, (size.width * FINE.unsigned_abs(), size.height * FINE.unsigned_abs()))
                .into_drawing_area();
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        let (left, right) = (margin.left, width - margin.right);
        let (top, bottom) = (margin.top, height - margin.bottom);
        let coordinates =
            Cartesian2d::new(x.clone(), y.clone(), (fine(left)..fine(right), fine(bottom)..fine(top)));
        let plot = root.clone().apply_coord_spec(coordinates);
        draw(&Sheet { root, plot, x, y, left, right, top, bottom })?;
    }
    let Caption { id, title, description } = caption;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{inside}</svg>",
        size.width,
        size.height,
        escape(title),
        escape(description),
    ))
}

impl Sheet<'_> {
    /// Vertical grid lines with their words below.
    pub(super) fn x_axis(&self, ticks: &[f64], word: impl Fn(f64) -> String) -> Result<(), RenderError> {
        let mut free_from = f64::NEG_INFINITY;
        for tick in ticks {
            let x = self.x_of(*tick);
            self.segment((x, self.top), (x, self.bottom), Ink::Grid, 1.0)?;
            let word = word(*tick);
            // The outermost words stay inside the picture.
            let half = text_width(&word) / 2.0;
            let width = f64::from(self.root.dim_in_pixel().0) / f64::from(FINE);
            let at = x.clamp(half.min(width / 2.0), (width - half).max(width / 2.0));
            if at - half >= free_from {
                self.words((at, self.bottom + 17.0), HPos::Center, Ink::Dim, false, &word)?;
                free_from = at + half + 6.0;
            }
        }
        Ok(())
    }

    /// Horizontal grid lines with their words on the left.
    pub(super) fn y_axis(&self, ticks: &[f64], word: impl Fn(f64) -> String) -> Result<(), RenderError> {
        for tick in ticks {
            let y = self.y_of(*tick);
            self.segment((self.left, y), (self.right, y), Ink::Grid, 1.0)?;
            self.words((self.left - 6.0, y + 4.0), HPos::Right, Ink::Dim, false, &word(*tick))?;
        }
        Ok(())
    }

    /// A line through points in the units of the axes.
    pub(super) fn curve(
        &self,
        points: Vec<(f64, f64)>,
        ink: Ink,
        width: f64,
        opacity: f64,
    ) -> Result<(), RenderError> {
        let style =
            ShapeStyle { color: ink.with_opacity(opacity), filled: false, stroke_width: fine_u(width) };
        if points.len() == 1 {
            return Ok(self.plot.draw(&Circle::new(points[0], fine(width), style.filled()))?);
        }
        Ok(self.plot.draw(&PathElement::new(points, style))?)
    }

    /// A filled point in the units of the axes.
    pub(super) fn dot(&self, at: (f64, f64), radius: f64, ink: Ink) -> Result<(), RenderError> {
        Ok(self.plot.draw(&Circle::new(at, fine(radius), ShapeStyle::from(&ink.color()).filled()))?)
    }

    /// A filled point at a pixel.
    pub(super) fn pixel_dot(&self, (x, y): (f64, f64), radius: f64, ink: Ink) -> Result<(), RenderError> {
        let style = ShapeStyle::from(&ink.color()).filled();
        Ok(self.root.draw(&Circle::new((fine(x), fine(y)), fine(radius), style))?)
    }

    /// A hollow point in the units of the axes.
    pub(super) fn ring(&self, at: (f64, f64), radius: f64, ink: Ink) -> Result<(), RenderError> {
        let style = ShapeStyle { color: ink.with_opacity(1.0), filled: false, stroke_width: 20 };
        Ok(self.plot.draw(&Circle::new(at, fine(radius), style))?)
    }

    /// A band over the whole height, between two values of the x axis.
    pub(super) fn band(&self, from: f64, to: f64, ink: Ink) -> Result<(), RenderError> {
        let corners = [
            (fine(self.x_of(from)), fine(self.top)),
            (fine(self.x_of(to).max(self.x_of(from) + 2.0)), fine(self.bottom)),
        ];
        Ok(self.root.draw(&Rectangle::new(corners, ShapeStyle::from(&ink.color()).filled()))?)
    }

    /// A straight line between two pixels.
    pub(super) fn segment(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        ink: Ink,
        width: f64,
    ) -> Result<(), RenderError> {
        self.segment_with(from, to, ink, width, 1.0)
    }

    /// A straight line between two pixels that lets others shine through.
    pub(super) fn segment_with(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        ink: Ink,
        width: f64,
        opacity: f64,
    ) -> Result<(), RenderError> {
        let style =
            ShapeStyle { color: ink.with_opacity(opacity), filled: false, stroke_width: fine_u(width) };
        let points = [from, to].map(|(x, y)| (fine(x), fine(y)));
        Ok(self.root.draw(&PathElement::new(points, style))?)
    }

    /// Words with their baseline at a pixel.
    pub(super) fn words(
        &self,
        (x, y): (f64, f64),
        anchor: HPos,
        ink: Ink,
        bold: bool,
        text: &str,
    ) -> Result<(), RenderError> {
        let color = ink.color();
        let style: TextStyle<'_> = ("sans-serif", 12).into_text_style(&self.root).color(&color);
        let style = TextStyle {
            font: if bold { style.font.style(FontStyle::Bold) } else { style.font },
            pos: Pos::new(anchor, VPos::Bottom),
            ..style
        };
        Ok(self.root.draw_text(text, &style, (fine(x), fine(y)))?)
    }

    pub(super) fn x_of(&self, value: f64) -> f64 {
        let (x, _) = self.plot.map_coordinate(&(value, 0.0));
        f64::from(x) / f64::from(FINE)
    }

    pub(super) fn y_of(&self, value: f64) -> f64 {
        let (_, y) = self.plot.map_coordinate(&(0.0, value));
        f64::from(y) / f64::from(FINE)
    }

    pub(super) fn left(&self) -> f64 {
        self.left
    }

    pub(super) fn right(&self) -> f64 {
        self.right
    }

    pub(super) fn top(&self) -> f64 {
        self.top
    }

    pub(super) fn bottom(&self) -> f64 {
        self.bottom
    }

    pub(super) fn x(&self) -> &Axis {
        &self.x
    }

    pub(super) fn y(&self) -> &Axis {
        &self.y
    }
}

/// Width of a text in pixels, on the safe side for the usual sans-serif faces at 12 px.
#[expect(clippy::cast_precision_loss, reason = "a few words")]
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.5
}

/// Moves labels apart so that none overlaps another and all stay between two bounds.
///
/// Takes the wished positions in any order and returns the given ones in the same order.
pub(super) fn spread_labels(wished: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wished.len()).collect();
    order.sort_by(|a, b| wished[*a].total_cmp(&wished[*b]));
    let mut placed = wished.to_vec();
    let mut floor = low;
    for index in &order {
        placed[*index] = placed[*index].max(floor);
        floor = placed[*index] + gap;
    }
    let mut ceiling = high;
    for index in order.iter().rev() {
        placed[*index] = placed[*index].min(ceiling);
        ceiling = placed[*index] - gap;
    }
    placed
}

#[expect(clippy::cast_possible_truncation, reason = "a few thousand pixels")]
fn fine(pixels: f64) -> i32 {
    (pixels * f64::from(FINE)).round() as i32
}

fn fine_u(pixels: f64) -> u32 {
    fine(pixels).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::spread_labels;

    #[test]
    fn labels_keep_their_place_where_there_is_room_and_their_order_where_there_is_not() {
        assert_eq!(spread_labels(&[50.0, 10.0], 14.0, 0.0, 100.0), [50.0, 10.0]);
        assert_eq!(spread_labels(&[98.0, 97.0, 96.0], 14.0, 0.0, 100.0), [100.0, 86.0, 72.0]);
        assert_eq!(spread_labels(&[1.0, 2.0], 14.0, 5.0, 100.0), [5.0, 19.0]);
    }
}
