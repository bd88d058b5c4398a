//! An objective: a condition on one metric, for a search that tries many rates.

use std::{fmt, str::FromStr};

use super::{Operator, ParseGateError, parse};
use crate::{
    figures::Scale,
    record::{Phase, Provisioner, Trial},
    statistics::Metric,
};

/// `METRIC OP VALUE`, in the words of a gate: `response_p99_us < 5ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    text: String,
    metric: Metric,
    operator: Operator,
    limit: f64,
}

impl Slo {
    pub(super) fn new(text: &str, metric: Metric, operator: Operator, limit: f64) -> Self {
        Self { text: text.to_owned(), metric, operator, limit }
    }

    /// What is limited.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// In the record's unit.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Holds a phase of a trial against it.
    ///
    /// # Errors
    /// Why it does not hold, with the figure.
    pub fn judge(&self, provisioner: Provisioner, trial: &Trial, phase: &Phase) -> Result<(), String> {
        match self.metric.of(provisioner, trial, phase) {
            Some(value) if self.operator.holds(value, self.limit) => Ok(()),
            Some(value) => {
                Err(format!("{} is {}", self.metric.title(), Scale::alone(self.metric.unit(), value)))
            }
            None => Err(format!("{} was not measured", self.metric.title())),
        }
    }

    /// In words: `response p99 < 5ms`.
    pub fn words(&self) -> String {
        self.text.replacen(self.metric.key(), self.metric.title(), 1)
    }
}

impl FromStr for Slo {
    type Err = ParseGateError;

    fn from_str(text: &str) -> Result<Self, ParseGateError> {
        parse::slo(text)
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
