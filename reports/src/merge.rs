//! Merges the shards of one run: records and histograms of several processes into one, without loss.
//!
//! Counts and rates add up; percentiles come from the merged histograms; CPU of the harness adds up, while that of
//! the subject, which every shard sees whole, is the highest any of them saw. Percentiles of windows cannot be
//! merged without their histograms: the highest of the shards stands, an upper bound, and a warning says so.
//! Shards of different runs are refused with the field that differs.

use crate::{
    histograms::{Histograms, Key, Kind, RangeError},
    record::{
        Delivery, DeliveryVerdict, Latency, LoadVerdict, Phase, Resources, Run, Series, Subject, Trial,
        Usage, Warning, Window,
    },
    statistics::summarize,
};

/// Code of the warning about windows.
pub const WINDOW_BOUND: &str = "window-percentiles-are-upper-bounds";

/// Why shards cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Nothing was given.
    #[error("there is nothing to merge; give the folders of at least one shard")]
    Nothing,
    /// They are not of one run.
    #[error("these are not shards of one run: {field} is {first} in the first and {other} in shard {shard}")]
    Differs {
        /// The key in the record.
        field: String,
        /// Its value in the first shard.
        first: String,
        /// Its value in the other.
        other: String,
        /// Which, from 1.
        shard: usize,
    },
    /// A phase has latencies and no histogram to merge them by.
    #[error(
        "shard {shard} has no {kind} histogram of {subject}, trial {trial}, phase {phase}; its percentiles cannot be merged"
    )]
    NoHistogram {
        /// Which, from 1.
        shard: usize,
        /// The subject.
        subject: String,
        /// The round.
        trial: u32,
        /// The phase.
        phase: String,
        /// Which latency.
        kind: Kind,
    },
    /// Histograms of another precision.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// Merges shards, in any order, and fills the statistics of the result.
///
/// # Errors
/// When there are none, when they are not of one run, or when a histogram is missing.
pub fn merge(shards: Vec<(Run, Histograms)>) -> Result<(Run, Histograms), MergeError> {
    for (index, (shard, histograms)) in shards.iter().enumerate() {
        same_run(&shards[0].0, shard, index + 1)?;
        if shards.len() > 1 {
            has_histograms(shard, histograms, index + 1)?;
        }
    }
    let several = shards.len() > 1;
    let mut shards = shards.into_iter();
    let (mut run, mut histograms) = shards.next().ok_or(MergeError::Nothing)?;
    for (shard, of_shard) in shards {
        histograms.merge(&of_shard)?;
        merge_run(&mut run, shard);
    }
    if several {
        recompute(&mut run, &histograms);
        if run.subjects.iter().flat_map(|s| &s.trials).any(|trial| !trial.series.windows.is_empty())
            && !run.warnings.iter().any(|warning| warning.code == WINDOW_BOUND)
        {
            run.warnings.push(Warning {
                code: WINDOW_BOUND.to_owned(),
                subject: None,
                text:
                    "Percentiles over time are the highest of the shards in each window, an upper bound; all \
                       others come from merged histograms."
                        .to_owned(),
            });
        }
    }
    summarize(&mut run);
    Ok((run, histograms))
}

fn same_run(first: &Run, other: &Run, shard: usize) -> Result<(), MergeError> {
    let same = |field: String, a: String, b: String| {
        if a == b { Ok(()) } else { Err(MergeError::Differs { field, first: a, other: b, shard }) }
    };
    same("format".into(), first.format.clone(), other.format.clone())?;
    same("id".into(), first.id.clone(), other.id.clone())?;
    same("seed".into(), first.seed.to_string(), other.seed.to_string())?;
    same("profile".into(), first.profile.to_string(), other.profile.to_string())?;
    let names = |run: &Run| run.subjects.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    same("subjects".into(), names(first), names(other))?;
    for (a, b) in first.subjects.iter().zip(&other.subjects) {
        let field = |key: &str| format!("{key} of {}", a.name);
        same(field("backend"), a.backend.clone(), b.backend.clone())?;
        same(field("version"), a.version.clone(), b.version.clone())?;
        same(field("provisioner"), format!("{:?}", a.provisioner), format!("{:?}", b.provisioner))?;
        same(field("durability"), format!("{:?}", a.durability), format!("{:?}", b.durability))?;
        let settings = |subject: &Subject| serde_json::Value::from_iter(subject.settings.clone()).to_string();
        same(field("settings"), settings(a), settings(b))?;
    }
    Ok(())
}

/// The histograms that a latency of the record stands on.
fn latencies(phase: &Phase) -> [(Kind, &Latency); 4] {
    [
        (Kind::Response, &phase.response_us),
        (Kind::Service, &phase.service_us),
        (Kind::ScheduleLag, &phase.schedule_lag_us),
        (Kind::EndToEnd, &phase.end_to_end_us),
    ]
}

fn has_histograms(run: &Run, histograms: &Histograms, shard: usize) -> Result<(), MergeError> {
    for subject in &run.subjects {
        for trial in &subject.trials {
            for phase in &trial.phases {
                for (kind, latency) in latencies(phase) {
                    let key = Key::new(&subject.name, trial.index, &phase.name, kind);
                    if latency.count > 0 && histograms.get(&key).is_none() {
                        return Err(MergeError::NoHistogram {
                            shard,
                            subject: key.subject,
                            trial: key.trial,
                            phase: key.phase,
                            kind,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}

fn merge_run(run: &mut Run, shard: Run) {
    run.started_at = run.started_at.clone().min(shard.started_at);
    run.finished_at = match (run.finished_at.take(), shard.finished_at) {
        (Some(a), Some(b)) => Some(a.max(b)),
        // A shard that never finished leaves the run unfinished.
        _ => None,
    };
    run.partial |= shard.partial;
    for (subject, of_shard) in run.subjects.iter_mut().zip(shard.subjects) {
        for trial in of_shard.trials {
            match subject.trials.iter_mut().find(|known| known.index == trial.index) {
                Some(known) => merge_trial(known, trial),
                None => subject.trials.push(trial),
            }
        }
        subject.trials.sort_by_key(|trial| trial.index);
    }
    for skipped in shard.skipped {
        if !run.skipped.contains(&skipped) {
            run.skipped.push(skipped);
        }
    }
    for warning in shard.warnings {
        if !run.warnings.contains(&warning) {
            run.warnings.push(warning);
        }
    }
    run.calibration = run.calibration.or(shard.calibration);
}

fn merge_trial(trial: &mut Trial, shard: Trial) {
    for phase in shard.phases {
        match trial.phases.iter_mut().find(|known| known.name == phase.name) {
            Some(known) => merge_phase(known, phase),
            None => trial.phases.push(phase),
        }
    }
    trial.phases.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    merge_delivery(&mut trial.delivery, shard.delivery);
    merge_resources(&mut trial.resources, shard.resources, trial.delivery.acknowledged);
    for fault in shard.faults {
        if !trial.faults.contains(&fault) {
            trial.faults.push(fault);
        }
    }
    for death in shard.deaths {
        if !trial.deaths.contains(&death) {
            trial.deaths.push(death);
        }
    }
    merge_series(&mut trial.series, shard.series);
    trial.backlog = match (trial.backlog, shard.backlog) {
        (Some(mut a), Some(b)) => {
            a.messages += b.messages;
            a.build_s = a.build_s.max(b.build_s);
            a.drain_per_s += b.drain_per_s;
            a.time_to_parity_s = a.time_to_parity_s.max(b.time_to_parity_s);
            Some(a)
        }
        (a, b) => a.or(b),
    };
}

fn merge_phase(phase: &mut Phase, shard: Phase) {
    // Rates are over a shard's own stretch; messages are what adds up.
    let messages = |rate: f64, phase: &Phase| rate * (phase.end_s - phase.start_s);
    let sum = |pick: fn(&Phase) -> f64| messages(pick(phase), phase) + messages(pick(&shard), &shard);
    let achieved = sum(|phase| phase.achieved_per_s);
    let received = sum(|phase| phase.received_per_s);
    phase.start_s = phase.start_s.min(shard.start_s);
    phase.end_s = phase.end_s.max(shard.end_s);
    let seconds = (phase.end_s - phase.start_s).max(f64::MIN_POSITIVE);
    phase.achieved_per_s = achieved / seconds;
    phase.received_per_s = received / seconds;
    // What was planned does not shrink because a shard took longer.
    phase.offered_per_s = match (phase.offered_per_s, shard.offered_per_s) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    phase.measured |= shard.measured;
    phase.errors += shard.errors;
    phase.unknown += shard.unknown;
    phase.load_verdict = worse(phase.load_verdict, shard.load_verdict);
    phase.in_flight = match (phase.in_flight, shard.in_flight) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    for (mine, theirs) in [
        (&mut phase.response_us, shard.response_us),
        (&mut phase.service_us, shard.service_us),
        (&mut phase.schedule_lag_us, shard.schedule_lag_us),
        (&mut phase.end_to_end_us, shard.end_to_end_us),
    ] {
        // The rest is recomputed from the merged histogram.
        mine.count += theirs.count;
    }
    for (key, value) in shard.extra {
        phase.extra.entry(key).or_insert(value);
    }
}

fn worse(a: LoadVerdict, b: LoadVerdict) -> LoadVerdict {
    let rank = |verdict| match verdict {
        LoadVerdict::Ok => 0,
        LoadVerdict::OfferedRateNotReached => 1,
        LoadVerdict::GeneratorLimited => 2,
    };
    if rank(b) > rank(a) { b } else { a }
}

fn merge_delivery(delivery: &mut Delivery, shard: Delivery) {
    delivery.attempted += shard.attempted;
    delivery.acknowledged += shard.acknowledged;
    delivery.rejected += shard.rejected;
    delivery.unknown += shard.unknown;
    delivery.received += shard.received;
    delivery.lost += shard.lost;
    delivery.duplicated += shard.duplicated;
    delivery.reordered += shard.reordered;
    delivery.reordered_redelivered += shard.reordered_redelivered;
    delivery.corrupted += shard.corrupted;
    delivery.stray += shard.stray;
    delivery.resurrected += shard.resurrected;
    delivery.drain_deadline_passed |= shard.drain_deadline_passed;
    if shard.verdict == DeliveryVerdict::Violated {
        delivery.verdict = DeliveryVerdict::Violated;
    }
    delivery.violations.extend(shard.violations);
}

fn merge_resources(resources: &mut Resources, shard: Resources, acknowledged: u64) {
    resources.harness = Usage {
        cpu_s: resources.harness.cpu_s + shard.harness.cpu_s,
        cpu_us_per_message: 0.0,
        rss_peak_bytes: resources.harness.rss_peak_bytes + shard.harness.rss_peak_bytes,
        disk_written_bytes: resources.harness.disk_written_bytes + shard.harness.disk_written_bytes,
        network_bytes: match (resources.harness.network_bytes, shard.harness.network_bytes) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        },
    };
    let (mine, theirs) = (resources.subject, shard.subject);
    resources.subject = Usage {
        cpu_s: mine.cpu_s.max(theirs.cpu_s),
        cpu_us_per_message: 0.0,
        rss_peak_bytes: mine.rss_peak_bytes.max(theirs.rss_peak_bytes),
        disk_written_bytes: mine.disk_written_bytes.max(theirs.disk_written_bytes),
        network_bytes: mine.network_bytes.max(theirs.network_bytes),
    };
    resources.subject_observed |= shard.subject_observed;
    #[expect(clippy::cast_precision_loss, reason = "messages of one run")]
    let per_message = |cpu_s: f64| if acknowledged == 0 { 0.0 } else { cpu_s * 1e6 / acknowledged as f64 };
    resources.harness.cpu_us_per_message = per_message(resources.harness.cpu_s);
    resources.subject.cpu_us_per_message = per_message(resources.subject.cpu_s);
}

fn merge_series(series: &mut Series, shard: Series) {
    series.window_s = series.window_s.max(shard.window_s);
    for window in shard.windows {
        let near = |known: &&mut Window| (known.start_s - window.start_s).abs() < series.window_s / 2.0;
        match series.windows.iter_mut().find(near) {
            Some(known) => merge_window(known, &window),
            None => series.windows.push(window),
        }
    }
    series.windows.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
}

fn merge_window(window: &mut Window, shard: &Window) {
    let highest = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    window.sent += shard.sent;
    window.acknowledged += shard.acknowledged;
    window.received += shard.received;
    window.errors += shard.errors;
    window.response_p50_us = highest(window.response_p50_us, shard.response_p50_us);
    window.response_p95_us = highest(window.response_p95_us, shard.response_p95_us);
    window.response_p99_us = highest(window.response_p99_us, shard.response_p99_us);
    window.schedule_lag_p99_us = highest(window.schedule_lag_p99_us, shard.schedule_lag_p99_us);
    window.end_to_end_p95_us = highest(window.end_to_end_p95_us, shard.end_to_end_p95_us);
    window.backlog = match (window.backlog, shard.backlog) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    window.subject_cpu_cores = highest(window.subject_cpu_cores, shard.subject_cpu_cores);
    window.harness_cpu_cores = match (window.harness_cpu_cores, shard.harness_cpu_cores) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    window.subject_rss_bytes = window.subject_rss_bytes.max(shard.subject_rss_bytes);
    window.subject_open_files = window.subject_open_files.max(shard.subject_open_files);
    window.subject_tasks = window.subject_tasks.max(shard.subject_tasks);
}

/// States each latency anew from its merged histogram.
fn recompute(run: &mut Run, histograms: &Histograms) {
    for subject in &mut run.subjects {
        for trial in &mut subject.trials {
            for phase in &mut trial.phases {
                let of = |kind| histograms.get(&Key::new(&subject.name, trial.index, &phase.name, kind));
                let found = Kind::ALL.map(|kind| of(kind).map(Latency::from_nanoseconds));
                let [response, service, lag, far] = found;
                for (slot, latency) in [
                    (&mut phase.response_us, response),
                    (&mut phase.service_us, service),
                    (&mut phase.schedule_lag_us, lag),
                    (&mut phase.end_to_end_us, far),
                ] {
                    if let Some(latency) = latency {
                        *slot = latency;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
