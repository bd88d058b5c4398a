//! Refusals of a profile, with line and reason.

use std::fmt::Write as _;

use super::validate::{Problem, Step};

/// Why a profile cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}{}: {message}", line.map(|l| format!(", line {l}")).unwrap_or_default())]
pub struct ProfileError {
    origin: String,
    line: Option<usize>,
    message: String,
}

impl ProfileError {
    pub(crate) fn unreadable(origin: &str, message: &str) -> Self {
        Self { origin: origin.to_owned(), line: None, message: format!("cannot be read: {message}") }
    }

    pub(super) fn of_toml(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        let mut message = error.message().trim().replace('\n', "; ");
        if let Some(suggestion) = suggestion(&message).map(str::to_owned) {
            let _ = write!(message, " (did you mean `{suggestion}`?)");
        }
        Self { origin: origin.to_owned(), line, message }
    }

    pub(super) fn of_problem(origin: &str, text: &str, problem: &Problem) -> Self {
        Self {
            origin: origin.to_owned(),
            line: locate(text, &problem.path),
            message: format!("`{}` {}", dotted(&problem.path), problem.message),
        }
    }

    /// The line the error is about, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

fn dotted(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                let _ = write!(out, ".{key}");
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
        }
    }
    out
}

/// The line of the value at `path`, or of the nearest thing around it that is written down.
fn locate(text: &str, path: &[Step]) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut value: Option<&toml::de::DeValue<'_>> = None;
    for step in path {
        let next = match (step, value) {
            (Step::Key(key), None) => table.get_ref().get(key.as_str()),
            (Step::Key(key), Some(value)) => value.as_table().and_then(|t| t.get(key.as_str())),
            (Step::Index(index), Some(value)) => value.as_array().and_then(|a| a.get(*index)),
            (Step::Index(_), None) => None,
        };
        let Some(next) = next else { break };
        offset = Some(next.span().start);
        value = Some(next.get_ref());
    }
    offset.map(|offset| line_of(text, offset))
}

/// For an unknown key or word, the expected one that is written most alike.
fn suggestion(message: &str) -> Option<&str> {
    let (found, expected) = message.split_once("expected")?;
    if !found.contains("unknown") {
        return None;
    }
    let wrong = found.split('`').nth(1)?;
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|right| (distance(wrong, right), right))
        .filter(|&(distance, right)| distance <= right.len().div_ceil(2))
        .min()
        .map(|(_, right)| right)
}

/// Levenshtein's edit distance, over bytes: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
