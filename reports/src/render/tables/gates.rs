//! The gates that a run was held against.

use serde::Serialize;

use super::State;
use crate::{
    figures::{Scale, significant},
    record::Run,
    statistics::Metric,
};

/// What each gate found; `None` when none was given.
pub(in crate::render) fn gates(run: &Run) -> Option<Gates> {
    let row = |result: &crate::gate::GateResult| {
        let metric: Option<Metric> = result.metric.parse().ok();
        let figure = |value: Option<f64>| match (value, metric) {
            (None, _) => "–".to_owned(),
            (Some(value), Some(metric)) => Scale::alone(metric.unit(), value),
            (Some(value), None) => significant(value, 6),
        };
        GateRow {
            gate: result.gate.clone(),
            subject: result.subject.clone(),
            phase: result.phase.clone(),
            value: figure(result.value),
            limit: figure(result.limit),
            state: if result.holds { State::good("holds") } else { State::bad("broken") },
        }
    };
    (!run.gates.is_empty()).then(|| Gates { rows: run.gates.iter().map(row).collect() })
}

/// Gates and what they found.
#[derive(Debug, Serialize)]
pub(in crate::render) struct Gates {
    rows: Vec<GateRow>,
}

#[derive(Debug, Serialize)]
struct GateRow {
    gate: String,
    subject: String,
    phase: String,
    value: String,
    limit: String,
    state: State,
}
