//! The report: one HTML file that needs neither network nor script, drawn from the record and the histograms alone.
//!
//! [`html`] draws a run, [`html_pair`] two of them side by side, [`write_all`] everything that belongs into a run's
//! folder. Charts are drawn by plotters on a canvas of our own (`canvas`), words by a template that escapes
//! whatever a record may contain.

use std::path::PathBuf;

use minijinja::{AutoEscape, Environment};

use crate::{
    export::{self, Format},
    folder::{FolderError, REPORT_FILE, RunFolder},
    histograms::Histograms,
    record::Run,
};

mod axis;
mod canvas;
mod curves;
mod dots;
mod page;
mod pair;
mod parts;
mod sections;
mod sheet;
mod tables;
mod time;

const PAGE: &str = include_str!("render/page.html");
const PAIR: &str = include_str!("render/pair.html");
const MACROS: &str = include_str!("render/macros.html");
const STYLE: &str = include_str!("render/page.css");
const CHART_STYLE: &str = include_str!("render/chart.css");

/// Why a report could not be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// plotters refused.
    #[error("a chart could not be drawn: {0}")]
    Chart(String),
    /// The template refused.
    #[error("the page could not be put together: {0}")]
    Template(#[from] minijinja::Error),
    /// The record cannot be embedded.
    #[error("the record could not be embedded: {0}")]
    Record(#[from] serde_json::Error),
    /// Reading or writing the folder failed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A summary could not be written.
    #[error(transparent)]
    Export(#[from] export::ExportError),
}

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>> for RenderError {
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self::Chart(error.to_string())
    }
}

/// Draws the report of a run whose statistics are filled ([`crate::statistics::summarize`]).
///
/// # Errors
/// When a chart or the page cannot be put together; no record that could be read does that.
pub fn html(run: &Run, histograms: &Histograms) -> Result<String, RenderError> {
    let page = page::Page::of(run, histograms)?;
    Ok(templates()?.get_template("page.html")?.render(page)?)
}

/// Draws two runs side by side: same subjects and phases matched, each figure with its ratio.
///
/// # Errors
/// As [`html`].
pub fn html_pair(a: (&Run, &Histograms), b: (&Run, &Histograms)) -> Result<String, RenderError> {
    let page = pair::Page::of(a, b)?;
    Ok(templates()?.get_template("pair.html")?.render(page)?)
}

/// The charts of a run as files of their own: name and content.
///
/// # Errors
/// As [`html`].
pub fn charts(run: &Run, histograms: &Histograms) -> Result<Vec<(String, String)>, RenderError> {
    let page = page::Page::of(run, histograms)?;
    let charts = page.sections.iter().flat_map(|section| &section.charts);
    Ok(charts
        .flat_map(|chart| &chart.variants)
        .map(|variant| {
            // A file has no page to take its colours from.
            let style = format!("<style>{CHART_STYLE}</style></svg>");
            (format!("{}.svg", variant.id), variant.svg.replacen("</svg>", &style, 1))
        })
        .collect())
}

/// Reads a folder's record and histograms and writes report, summaries and charts beside them.
///
/// Returns the path of the report.
///
/// # Errors
/// When the record cannot be read or a file cannot be written.
pub fn write_all(folder: &RunFolder) -> Result<PathBuf, RenderError> {
    let mut run = folder.record()?;
    let histograms = folder.histograms()?;
    // A killed run never came to its statistics.
    crate::statistics::summarize(&mut run);
    for (name, svg) in charts(&run, &histograms)? {
        folder.write(&format!("charts/{name}"), svg.as_bytes())?;
    }
    folder.write("summary.md", export::to_string(&run, &histograms, Format::Markdown)?.as_bytes())?;
    folder.write("summary.csv", export::to_string(&run, &histograms, Format::Csv)?.as_bytes())?;
    Ok(folder.write(REPORT_FILE, html(&run, &histograms)?.as_bytes())?)
}

fn templates() -> Result<Environment<'static>, RenderError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page.html", PAGE)?;
    environment.add_template("pair.html", PAIR)?;
    environment.add_template("macros.html", MACROS)?;
    Ok(environment)
}

#[cfg(test)]
mod tests;
