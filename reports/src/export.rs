//! A run in the forms that other tools and people read.
//!
//! Each exporter is a pure function of record and histograms. Names that dashboards key their series by (subject,
//! phase, metric) are the record's own and stay the same from run to run.

use std::{fmt, str::FromStr};

use crate::{histograms::Histograms, record::Run};

mod bencher;
mod csv;
mod dashboard;
mod hgrm;
mod json;
mod markdown;
mod openmetrics;

pub use hgrm::{files as hgrm_files, percentile_distribution};

/// A form of export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The report.
    Html,
    /// A summary for a pull request.
    Markdown,
    /// One row per subject, phase and metric.
    Csv,
    /// The summary that `--json` prints.
    Json,
    /// HdrHistogram percentile distributions.
    Hgrm,
    /// OpenMetrics text.
    OpenMetrics,
    /// github-action-benchmark, figures of which less is better.
    DashboardSmaller,
    /// github-action-benchmark, figures of which more is better.
    DashboardBigger,
    /// Bencher Metric Format.
    Bencher,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 9] = [
        Self::Html,
        Self::Markdown,
        Self::Csv,
        Self::Json,
        Self::Hgrm,
        Self::OpenMetrics,
        Self::DashboardSmaller,
        Self::DashboardBigger,
        Self::Bencher,
    ];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Markdown => "md",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Hgrm => "hgrm",
            Self::OpenMetrics => "openmetrics",
            Self::DashboardSmaller => "github-action-benchmark-smaller",
            Self::DashboardBigger => "github-action-benchmark-bigger",
            Self::Bencher => "bencher",
        }
    }

    /// The ending of a file of this format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::OpenMetrics => "txt",
            Self::DashboardSmaller | Self::DashboardBigger | Self::Bencher => "json",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(name: &str) -> Result<Self, ParseFormatError> {
        let known = Self::ALL.into_iter().find(|format| format.as_str() == name);
        let alias = || (name == "markdown").then_some(Self::Markdown);
        known.or_else(alias).ok_or_else(|| ParseFormatError { name: name.to_owned() })
    }
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format \"{name}\"; there are {}", Format::ALL.map(Format::as_str).join(", "))]
pub struct ParseFormatError {
    /// As given.
    pub name: String,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The HTML could not be drawn.
    #[error("{0}")]
    Render(String),
    /// JSON could not be encoded.
    #[error("the summary could not be encoded: {0}")]
    Json(#[from] serde_json::Error),
    /// CSV could not be encoded.
    #[error("the table could not be encoded: {0}")]
    Csv(#[from] ::csv::Error),
}

/// A run in one format; its statistics must be filled ([`crate::statistics::summarize`]).
///
/// # Errors
/// When it cannot be encoded; no record that could be read does that.
pub fn to_string(run: &Run, histograms: &Histograms, format: Format) -> Result<String, ExportError> {
    match format {
        Format::Html => {
            crate::render::html(run, histograms).map_err(|error| ExportError::Render(error.to_string()))
        }
        Format::Markdown => Ok(markdown::summary(run)),
        Format::Csv => csv::summary(run),
        Format::Json => json::summary(run),
        Format::Hgrm => Ok(hgrm::all(histograms)),
        Format::OpenMetrics => Ok(openmetrics::exposition(run, histograms)),
        Format::DashboardSmaller => dashboard::entries(run, crate::statistics::Direction::Lower),
        Format::DashboardBigger => dashboard::entries(run, crate::statistics::Direction::Higher),
        Format::Bencher => bencher::metrics(run),
    }
}

/// Every summarized figure: subject, phase, metric, interval.
fn figures(
    run: &Run,
) -> impl Iterator<Item = (&crate::record::Subject, &str, crate::statistics::Metric, crate::record::Interval)>
{
    run.subjects.iter().flat_map(|subject| {
        subject.summary.iter().flat_map(move |(phase, summary)| {
            summary.iter().filter_map(move |(key, interval)| {
                Some((subject, phase.as_str(), key.parse().ok()?, *interval))
            })
        })
    })
}
