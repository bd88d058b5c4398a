//! github-action-benchmark: one file per direction, because the tool knows one direction per file.

use serde_json::json;

use super::{ExportError, figures};
use crate::{
    figures::{Scale, significant},
    record::Run,
    statistics::{Direction, Unit},
};

pub(super) fn entries(run: &Run, direction: Direction) -> Result<String, ExportError> {
    let entries: Vec<_> = figures(run)
        .filter(|(_, _, metric, _)| metric.better() == direction)
        .map(|(subject, phase, metric, interval)| {
            // The unit is fixed by the metric, so that a series keeps it however the values wander.
            let scale = match metric.unit() {
                Unit::Microseconds => Scale { factor: 1e3, word: "ms" },
                Unit::Bytes => Scale { factor: 1_048_576.0, word: "MiB" },
                Unit::PerSecond => Scale { factor: 1.0, word: "messages/s" },
                Unit::Messages => Scale { factor: 1.0, word: "messages" },
            };
            let mut entry = json!({
                "name": format!("{}/{}/{phase} {}", subject.name, run.profile_name(), metric.title()),
                "unit": scale.word,
                "value": interval.median / scale.factor,
            });
            if let Some([low, high]) = interval.ci95.map(|ci95| ci95.map(|bound| bound / scale.factor)) {
                entry["range"] = json!(format!("± {}", significant((high - low) / 2.0, 3)));
                entry["extra"] = json!(format!(
                    "n={} trials\n95% CI {}..{}",
                    interval.trials,
                    significant(low, 4),
                    significant(high, 4)
                ));
            }
            entry
        })
        .collect();
    Ok(serde_json::to_string_pretty(&entries)? + "\n")
}
