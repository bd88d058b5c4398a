//! The grammar of gates; errors point at a column and say what would be right there.

use super::{DeliveryCount, Gate, Limit, Name, Operator, Slo, Target, unit_factor, unit_words};
use crate::statistics::{Metric, Unit};

/// A gate that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gate \"{gate}\", column {column}: {expected}")]
pub struct ParseGateError {
    /// As given.
    pub gate: String,
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub expected: String,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

pub(super) fn gate(text: &str) -> Result<Gate, ParseGateError> {
    let ((subject, target), operator, limit) = condition(text, |path| {
        let (subject, target, unit) = target(path)?;
        Ok(((subject, target), unit))
    })?;
    Ok(Gate { text: text.trim().to_owned(), subject, target, operator, limit })
}

/// A condition on a metric alone: `response_p99_us < 5ms`.
pub(super) fn slo(text: &str) -> Result<Slo, ParseGateError> {
    let (metric, operator, limit) = condition(text, |key| {
        let metric = metric(key).map_err(|expected| (0, expected))?;
        Ok((metric, metric.unit()))
    })?;
    match limit {
        Limit::Value(limit) => Ok(Slo::new(text.trim(), metric, operator, limit)),
        Limit::Baseline(_) => Err(ParseGateError {
            gate: text.to_owned(),
            column: text.chars().count(),
            expected: "expected a figure: a search has no baseline".to_owned(),
        }),
    }
}

/// What stands left of the operator is read by `left`, which also knows its unit.
fn condition<T>(
    text: &str,
    left: impl FnOnce(&str) -> Result<(T, Unit), Offence>,
) -> Result<(T, Operator, Limit), ParseGateError> {
    let at = |byte: usize, expected: String| ParseGateError {
        gate: text.to_owned(),
        column: text[..byte].chars().count() + 1,
        expected,
    };
    let Some(start) = text.find(['<', '>', '=', '!']) else {
        return Err(at(text.trim_end().len(), "expected <, <=, >, >=, == or != and a value".to_owned()));
    };
    let Some((sign, operator)) = OPERATORS.into_iter().find(|(sign, _)| text[start..].starts_with(sign))
    else {
        return Err(at(start, "expected <, <=, >, >=, == or !=".to_owned()));
    };
    let path_start = text.len() - text.trim_start().len();
    let path = text[..start].trim();
    let (target, unit) = left(path).map_err(|(byte, expected)| at(path_start + byte, expected))?;
    let after = start + sign.len();
    let value = text[after..].trim();
    let value_start = after + (text[after..].len() - text[after..].trim_start().len());
    let limit = limit(value, unit).map_err(|(byte, expected)| at(value_start + byte, expected))?;
    Ok((target, operator, limit))
}

/// An offence: where in the piece, and what would be right.
type Offence = (usize, String);

fn target(path: &str) -> Result<(Name, Target, Unit), Offence> {
    let Some((subject, rest)) = path.split_once('.') else {
        return Err((
            0,
            "expected subject.phase.metric, for instance kafka.steady.response_p95_us".to_owned(),
        ));
    };
    let Some((phase, key)) = rest.rsplit_once('.') else {
        let at = subject.len() + 1;
        return Err((
            at,
            "expected phase.metric after the subject, for instance steady.response_p95_us".to_owned(),
        ));
    };
    let name = |text: &str, at: usize, what: &str| match text {
        "" => Err((at, format!("expected the name of a {what}, or * for all"))),
        "*" => Ok(Name::Any),
        text => Ok(Name::Exactly(text.to_owned())),
    };
    let subject_name = name(subject, 0, "subject")?;
    let key_at = path.len() - key.len();
    if phase == "delivery" {
        let count = DeliveryCount::ALL.into_iter().find(|count| count.key() == key).ok_or_else(|| {
            let known = DeliveryCount::ALL.map(DeliveryCount::key).join(", ");
            (key_at, format!("the ledger has no \"{key}\"; it has {known}"))
        })?;
        return Ok((subject_name, Target::Delivery(count), Unit::Messages));
    }
    let metric = metric(key).map_err(|expected| (key_at, expected))?;
    let phase = name(phase, subject.len() + 1, "phase")?;
    Ok((subject_name, Target::Phase(phase, metric), metric.unit()))
}

fn metric(key: &str) -> Result<Metric, String> {
    key.parse().map_err(|()| {
        let known = Metric::ALL.map(Metric::key).join(", ");
        format!("there is no metric \"{key}\"; there are {known}")
    })
}

fn limit(text: &str, unit: Unit) -> Result<Limit, Offence> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '_')).unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().map_err(|_| {
        (0, format!("expected a number, with {} if you like, or 1.1x baseline", unit_words(unit)))
    })?;
    let word = text[end..].trim();
    let word_at = end + (text[end..].len() - text[end..].trim_start().len());
    if let Some(rest) = word.strip_prefix(['x', '×']) {
        return match rest.trim() {
            "baseline" => Ok(Limit::Baseline(number)),
            _ => Err((word_at, "expected x baseline after the factor".to_owned())),
        };
    }
    let factor = unit_factor(unit, word).ok_or_else(|| {
        (word_at, format!("\"{word}\" is no unit of this metric; expected {}", unit_words(unit)))
    })?;
    Ok(Limit::Value(number * factor))
}
