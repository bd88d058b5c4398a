//! How a case ends and how a whole suite is told.

use std::any::Any;
use std::fmt;

/// How one case ended.
pub type CaseResult = Result<Verdict, Failure>;

/// How a case that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend did what it must.
    Passed,
    /// The backend does not claim the ability that the case is about.
    Skipped(&'static str),
}

/// What a backend did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self(format!("panicked: {}", text.as_deref().unwrap_or("no message")))
    }
}

/// All cases by name, in the order in which they ran. Its `Display` is one line per case.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Name and end of each case.
    pub cases: Vec<(&'static str, CaseResult)>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, result: CaseResult) {
        self.cases.push((name, result));
    }

    /// The cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.cases.iter().filter_map(|(name, result)| Some((*name, result.as_ref().err()?)))
    }

    /// For tests: panics with the whole report if a case failed.
    ///
    /// # Panics
    /// A case failed.
    pub fn assert_passed(&self) {
        assert!(self.failures().next().is_none(), "the queue does not conform:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, result) in &self.cases {
            match result {
                Ok(Verdict::Passed) => writeln!(f, "passed   {name}")?,
                Ok(Verdict::Skipped(reason)) => writeln!(f, "skipped  {name}: {reason}")?,
                Err(failure) => writeln!(f, "FAILED   {name}: {failure}")?,
            }
        }
        Ok(())
    }
}
