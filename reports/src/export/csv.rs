//! One row per subject, phase and metric, in the record's units.

use super::{ExportError, figures};
use crate::{
    record::Run,
    words::{durability, provisioner},
};

pub(super) fn summary(run: &Run) -> Result<String, ExportError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "run",
        "subject",
        "version",
        "provisioner",
        "durability",
        "phase",
        "metric",
        "median",
        "ci95_low",
        "ci95_high",
        "trials",
    ])?;
    for (subject, phase, metric, interval) in figures(run) {
        let bound = |index: usize| interval.ci95.map_or_else(String::new, |ci95| ci95[index].to_string());
        writer.write_record([
            &run.id,
            &subject.name,
            &subject.version,
            provisioner(subject.provisioner),
            durability(subject.durability),
            phase,
            metric.key(),
            &interval.median.to_string(),
            &bound(0),
            &bound(1),
            &interval.trials.to_string(),
        ])?;
    }
    let bytes = writer.into_inner().map_err(|error| ::csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
