//! The table of the answer in plain cells, for Markdown and terminals.

use crate::{
    answer::load_of,
    figures::with_unit,
    record::{DeliveryVerdict, Run, Subject},
    statistics::Metric,
    words::{answer_columns, durability, provisioner, scale},
};

/// The table of the answer.
#[derive(Clone, Debug)]
pub(crate) struct SummaryTable {
    pub(crate) head: Vec<String>,
    pub(crate) right_aligned: Vec<bool>,
    /// A cell's text, and the smaller one below it.
    pub(crate) rows: Vec<Vec<(String, String)>>,
}

impl SummaryTable {
    pub(crate) fn of(run: &Run) -> Self {
        let mut columns = answer_columns(run);
        let mut head = vec!["subject".to_owned()];
        let mut right_aligned = vec![false];
        if run.capacity.is_some() {
            // The rate that was found stands for what was carried at it.
            columns.retain(|(metric, _)| *metric != Metric::Throughput);
            head.push("highest messages/s".to_owned());
            right_aligned.push(true);
        }
        for (metric, phase) in &columns {
            let unit = scale(run, phase, &[*metric]).word;
            head.push(match metric {
                Metric::Throughput => format!("messages/s {}", load_of(run, phase)),
                Metric::CpuPerMessage => format!("CPU {unit}/message"),
                Metric::RssPeak => format!("memory {unit}"),
                metric => format!("{} {unit} {}", short(*metric), load_of(run, phase)),
            });
            right_aligned.push(true);
        }
        for title in ["ack survives", "delivery"] {
            head.push(title.to_owned());
            right_aligned.push(false);
        }
        let rows = run.subjects.iter().map(|subject| row(run, subject, &columns)).collect();
        Self { head, right_aligned, rows }
    }
}

fn short(metric: Metric) -> &'static str {
    match metric {
        Metric::ResponseP95 => "p95",
        Metric::ResponseP99 => "p99",
        other => other.title(),
    }
}

fn row(run: &Run, subject: &Subject, columns: &[(Metric, String)]) -> Vec<(String, String)> {
    let how = provisioner(subject.provisioner);
    let mut cells = vec![(subject.name.clone(), with_unit(how, &subject.version))];
    if let Some(search) = &run.capacity {
        let found = search.subjects.iter().find(|capacity| capacity.subject == subject.name);
        let highest = found.and_then(|found| found.highest_per_s);
        let flag = found.and_then(crate::words::capacity_flag);
        cells.push((
            highest.map_or_else(|| "none".to_owned(), crate::figures::rate),
            // The first word says it in a narrow column; the report has the rest.
            flag.filter(|_| highest.is_some()).map_or_else(String::new, |_| "at least".to_owned()),
        ));
    }
    for (metric, phase) in columns {
        let interval = subject.summary.get(phase).and_then(|summary| summary.get(metric.key()));
        cells.push(interval.map_or_else(
            || ("–".to_owned(), String::new()),
            |interval| {
                let figure = scale(run, phase, &[*metric]).figure(interval);
                (figure.value, figure.interval.unwrap_or_default())
            },
        ));
    }
    cells.push((durability(subject.durability).to_owned(), String::new()));
    cells.push((delivery(subject), String::new()));
    cells
}

fn delivery(subject: &Subject) -> String {
    let lost: u64 = subject.trials.iter().map(|trial| trial.delivery.lost).sum();
    let violated = subject.trials.iter().any(|trial| trial.delivery.verdict == DeliveryVerdict::Violated);
    match (subject.trials.is_empty(), violated, lost) {
        (true, ..) => "not measured".to_owned(),
        (_, true, 0) => "✗ promise broken".to_owned(),
        (_, true, lost) => format!("✗ {} lost", crate::figures::count(lost)),
        (_, false, 0) => "✓ none lost".to_owned(),
        (_, false, lost) => format!("△ {} lost, as allowed", crate::figures::count(lost)),
    }
}
