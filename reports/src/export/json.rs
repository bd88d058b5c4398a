//! The record's summary, alone on standard output with `--json`: everything but trials and series.

use serde_json::{Map, Value, json};

use super::ExportError;
use crate::{answer::answer, record::Run};

pub(super) fn summary(run: &Run) -> Result<String, ExportError> {
    let mut summary = Map::new();
    // Taken from the record's own encoding, so that keys and spellings cannot drift from it.
    if let Value::Object(record) = serde_json::to_value(run)? {
        for (key, value) in record {
            summary.insert(key, value);
        }
    }
    let said = answer(run);
    if let Some(Value::Array(subjects)) = summary.get_mut("subjects") {
        for (value, subject) in subjects.iter_mut().zip(&run.subjects) {
            let Value::Object(fields) = value else { continue };
            let verdicts: Vec<_> = subject.trials.iter().map(|trial| &trial.delivery).collect();
            let sum =
                |field: fn(&crate::record::Delivery) -> u64| verdicts.iter().map(|d| field(d)).sum::<u64>();
            let kept = verdicts.iter().all(|d| d.verdict == crate::record::DeliveryVerdict::Kept);
            let delivery = json!({
                "attempted": sum(|d| d.attempted),
                "acknowledged": sum(|d| d.acknowledged),
                "rejected": sum(|d| d.rejected),
                "unknown": sum(|d| d.unknown),
                "received": sum(|d| d.received),
                "lost": sum(|d| d.lost),
                "duplicated": sum(|d| d.duplicated),
                "reordered": sum(|d| d.reordered),
                "corrupted": sum(|d| d.corrupted),
                "stray": sum(|d| d.stray),
                "verdict": if kept { "kept" } else { "violated" },
            });
            fields.insert("trials".to_owned(), json!(subject.trials.len()));
            fields.insert("delivery".to_owned(), delivery);
        }
    }
    summary.insert("answer".to_owned(), json!({ "headline": said.headline, "details": said.details }));
    Ok(serde_json::to_string_pretty(&summary)? + "\n")
}
