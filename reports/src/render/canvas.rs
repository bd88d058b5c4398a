//! A plotters backend that writes SVG for two colour schemes.
//!
//! plotters knows literal colours only, so charts draw with [`Ink`]s: sentinel colours that stand for a role. This
//! backend writes them as classes, and the page's style sheet gives each role its colour, light or dark. It takes
//! coordinates in tenths of a pixel, finer than plotters' whole ones.

use std::fmt::Write as _;

use plotters::style::{Color as _, RGBAColor, RGBColor};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
    text_anchor::{HPos, VPos},
};

/// Sub-pixels per pixel.
pub(super) const FINE: i32 = 10;

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The subject with this place in the palette.
    Subject(u8),
    /// Grid lines.
    Grid,
    /// Ticks and notes.
    Dim,
    /// Labels.
    Text,
    /// The stretch of a phase that does not count.
    Phase,
    /// The stretch of a fault.
    Fault,
    /// What is not a subject: the harness itself.
    Neutral,
}

impl Ink {
    pub(super) fn color(self) -> RGBColor {
        let (role, index) = match self {
            Self::Subject(index) => (0, index),
            Self::Grid => (1, 0),
            Self::Dim => (2, 0),
            Self::Text => (3, 0),
            Self::Phase => (4, 0),
            Self::Fault => (5, 0),
            Self::Neutral => (6, 0),
        };
        RGBColor(role, index, 0)
    }

    pub(super) fn with_opacity(self, opacity: f64) -> RGBAColor {
        self.color().mix(opacity)
    }
}

fn class(color: BackendColor) -> String {
    match color.rgb {
        (0, index, _) => format!("s{index}"),
        (1, ..) => "grid".to_owned(),
        (2, ..) => "dim".to_owned(),
        (4, ..) => "phase".to_owned(),
        (5, ..) => "fault".to_owned(),
        (6, ..) => "neutral".to_owned(),
        _ => "fg".to_owned(),
    }
}

/// Escapes text for XML content and attributes.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML has no way to write these.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

/// Writes the inside of an `svg` element.
pub(super) struct Canvas<'a> {
    out: &'a mut String,
    size: (u32, u32),
}

impl<'a> Canvas<'a> {
    /// `size` in tenths of a pixel.
    pub(super) fn new(out: &'a mut String, size: (u32, u32)) -> Self {
        Self { out, size }
    }

    /// `kind` is the class that says how the colour is used: `l` for lines, `f` for areas, `t` for text.
    fn open(&mut self, tag: &str, kind: &str, color: BackendColor) {
        let _ = write!(self.out, "<{tag} class=\"{kind} {}\"", class(color));
        if color.alpha < 1.0 {
            let _ = write!(self.out, " opacity=\"{}\"", color.alpha);
        }
    }

    fn number(&mut self, name: &str, tenths: i32) {
        let _ = write!(self.out, " {name}=\"");
        push_fine(self.out, tenths);
        self.out.push('"');
    }

    fn points(&mut self, path: impl IntoIterator<Item = BackendCoord>) {
        self.out.push_str(" points=\"");
        for (index, (x, y)) in path.into_iter().enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            push_fine(self.out, x);
            self.out.push(',');
            push_fine(self.out, y);
        }
        self.out.push('"');
    }

    fn stroke(&mut self, tenths: u32) {
        if tenths != 10 {
            self.number("stroke-width", i32::try_from(tenths).unwrap_or(i32::MAX));
        }
    }
}

fn push_fine(out: &mut String, tenths: i32) {
    let _ = match (tenths / FINE, tenths % FINE) {
        (whole, 0) => write!(out, "{whole}"),
        (0, rest) if tenths < 0 => write!(out, "-0.{}", rest.abs()),
        (whole, rest) => write!(out, "{whole}.{}", rest.abs()),
    };
}

type Drawn = Result<(), DrawingErrorKind<std::convert::Infallible>>;

impl DrawingBackend for Canvas<'_> {
    type ErrorType = std::convert::Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.open("rect", "f", color);
        self.number("x", point.0);
        self.number("y", point.1);
        self.out.push_str(" width=\"0.1\" height=\"0.1\"/>");
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.open("line", "l", style.color());
        self.number("x1", from.0);
        self.number("y1", from.1);
        self.number("x2", to.0);
        self.number("y2", to.1);
        self.stroke(style.stroke_width());
        self.out.push_str("/>");
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        self.open("rect", if fill { "f" } else { "l" }, style.color());
        self.number("x", upper_left.0);
        self.number("y", upper_left.1);
        self.number("width", bottom_right.0 - upper_left.0);
        self.number("height", bottom_right.1 - upper_left.1);
        self.out.push_str("/>");
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.open("polyline", "l", style.color());
        self.stroke(style.stroke_width());
        self.points(path);
        self.out.push_str("/>");
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.open("polygon", "f", style.color());
        self.points(path);
        self.out.push_str("/>");
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        self.open("circle", if fill { "f" } else { "l ring" }, style.color());
        self.number("cx", center.0);
        self.number("cy", center.1);
        self.number("r", i32::try_from(radius).unwrap_or(i32::MAX));
        if !fill {
            self.stroke(style.stroke_width());
        }
        self.out.push_str("/>");
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, pos: BackendCoord) -> Drawn {
        self.open("text", if matches!(style.style(), FontStyle::Bold) { "t b" } else { "t" }, style.color());
        self.number("x", pos.0);
        self.number("y", pos.1);
        match style.anchor().h_pos {
            HPos::Left => {}
            HPos::Center => self.out.push_str(" text-anchor=\"middle\""),
            HPos::Right => self.out.push_str(" text-anchor=\"end\""),
        }
        match style.anchor().v_pos {
            VPos::Top => self.out.push_str(" dy=\".76em\""),
            VPos::Center => self.out.push_str(" dy=\".35em\""),
            VPos::Bottom => {}
        }
        let _ = write!(self.out, ">{}</text>", escape(text));
        Ok(())
    }
}
