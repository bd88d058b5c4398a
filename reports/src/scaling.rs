//! How throughput grows with the number of processors that share the work, and what the universal scalability law
//! says of it.
//!
//! Subjects of one backend that differ in their setting `processors` are one scaling. The law (Gunther) has three
//! figures: what one processor carries, the share of the work that only one can do at a time (contention), and the
//! cost of each pair agreeing (coherency):
//!
//! `X(n) = one · n / (1 + contention · (n − 1) + coherency · n · (n − 1))`
//!
//! `n / X(n)` is linear in them, so they are found by least squares; neither may be negative, so the best fit among
//! those that keep that is taken. Three counts are the least that say anything.

use crate::{
    answer,
    figures::{rate, significant},
    record::{Run, Subject, Trial},
    statistics::Metric,
};

/// One backend over several counts of processors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scaling {
    /// The backend.
    pub(crate) backend: String,
    /// The phase that shows the highest rate.
    pub(crate) phase: String,
    /// In order of the count.
    pub(crate) points: Vec<Point>,
    /// Absent below three counts.
    pub(crate) law: Option<Law>,
    cores: u32,
}

/// What some processors carried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) subject: String,
    pub(crate) processors: u32,
    pub(crate) per_s: f64,
    pub(crate) p95_us: Option<f64>,
    /// CPU of the services, their broker and the load generator together.
    pub(crate) cores_used: Option<f64>,
}

/// The fitted law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Law {
    /// What one processor carries.
    pub(crate) one_per_s: f64,
    /// Share of the work that only one can do at a time.
    pub(crate) contention: f64,
    /// Cost of each pair.
    pub(crate) coherency: f64,
}

/// From this share of all cores on, the machine itself is what limits.
const FULL_MACHINE: f64 = 0.85;
/// Growth below this factor is none.
const GROWTH: f64 = 1.1;

/// Every backend of the run that was measured with at least two counts of processors.
pub(crate) fn scalings(run: &Run) -> Vec<Scaling> {
    let Some(phase) = answer::throughput_phase(run) else { return Vec::new() };
    let mut backends: Vec<&str> = run.subjects.iter().map(|subject| subject.backend.as_str()).collect();
    backends.dedup();
    backends
        .into_iter()
        .filter_map(|backend| {
            let subjects = run.subjects.iter().filter(|subject| subject.backend == backend);
            let mut points: Vec<Point> = subjects.filter_map(|subject| point(subject, &phase)).collect();
            points.sort_by_key(|point| point.processors);
            let counts: Vec<u32> = points.iter().map(|point| point.processors).collect();
            let distinct = counts.windows(2).all(|pair| pair[0] < pair[1]);
            (distinct && points.len() >= 2).then(|| Scaling {
                backend: backend.to_owned(),
                phase: phase.clone(),
                law: Law::fit(&points.iter().map(|p| (p.processors, p.per_s)).collect::<Vec<_>>()),
                points,
                cores: run.environment.cores,
            })
        })
        .collect()
}

fn point(subject: &Subject, phase: &str) -> Option<Point> {
    let processors = u32::try_from(subject.settings.get("processors")?.as_u64()?).ok()?;
    let summary = subject.summary.get(phase)?;
    let median = |metric: Metric| summary.get(metric.key()).map(|interval| interval.median);
    let mut used: Vec<f64> =
        subject.trials.iter().filter_map(|trial| cores_used(trial, phase)).filter(|u| *u > 0.0).collect();
    used.sort_by(f64::total_cmp);
    Some(Point {
        subject: subject.name.clone(),
        processors,
        per_s: median(Metric::Throughput)?,
        p95_us: median(Metric::ResponseP95),
        cores_used: used.get(used.len() / 2).copied(),
    })
}

/// The mean over the windows that lie within the phase.
fn cores_used(trial: &Trial, phase: &str) -> Option<f64> {
    let phase = trial.phases.iter().find(|candidate| candidate.name == phase)?;
    let series = &trial.series;
    let within = series
        .windows
        .iter()
        .filter(|window| window.start_s >= phase.start_s && window.start_s + series.window_s <= phase.end_s);
    let harness = trial.resources.harness.cpu_s / trial.phases.last()?.end_s.max(1e-9);
    let used: Vec<f64> = within
        .filter_map(|window| Some(window.subject_cpu_cores? + window.harness_cpu_cores.unwrap_or(harness)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "windows of one phase")]
    let count = used.len() as f64;
    (!used.is_empty()).then(|| used.iter().sum::<f64>() / count)
}

impl Law {
    /// The best fit to (processors, rate) with non-negative costs; `None` below three points.
    pub(crate) fn fit(points: &[(u32, f64)]) -> Option<Self> {
        if points.len() < 3 || points.iter().any(|(count, per_s)| *count == 0 || *per_s <= 0.0) {
            return None;
        }
        // Which of contention and coherency may differ from nothing.
        let candidates = [[true, true], [true, false], [false, true], [false, false]];
        candidates
            .into_iter()
            .filter_map(|free| Self::fit_with(points, free))
            .min_by(|a, b| a.misfit(points).total_cmp(&b.misfit(points)))
    }

    fn fit_with(points: &[(u32, f64)], [contention, coherency]: [bool; 2]) -> Option<Self> {
        // The columns of one, contention and coherency that are in use.
        let row = |n: f64| -> Vec<f64> {
            let terms = [(true, 1.0), (contention, n - 1.0), (coherency, n * (n - 1.0))];
            terms.into_iter().filter(|(used, _)| *used).map(|(_, term)| term).collect()
        };
        let size = row(1.0).len();
        // Normal equations of n / X = Σ coefficient · column, relative to n / X.
        let mut matrix = vec![vec![0.0; size + 1]; size];
        for &(count, per_s) in points {
            let n = f64::from(count);
            let row: Vec<f64> = row(n).into_iter().map(|term| term * per_s / n).collect();
            for (line, a) in matrix.iter_mut().zip(&row) {
                for (cell, b) in line.iter_mut().zip(&row) {
                    *cell += a * b;
                }
                line[size] += a;
            }
        }
        let solved = solve(matrix)?;
        let mut rest = solved.iter().skip(1).map(|coefficient| coefficient / solved[0]);
        let law = Self {
            one_per_s: 1.0 / solved[0],
            contention: if contention { rest.next()? } else { 0.0 },
            coherency: if coherency { rest.next()? } else { 0.0 },
        };
        (law.one_per_s > 0.0 && law.contention >= 0.0 && law.coherency >= 0.0).then_some(law)
    }

    fn misfit(&self, points: &[(u32, f64)]) -> f64 {
        points.iter().map(|(count, per_s)| (self.at(f64::from(*count)) / per_s - 1.0).powi(2)).sum()
    }

    /// What the law says of `n` processors.
    pub(crate) fn at(&self, n: f64) -> f64 {
        self.one_per_s * n / (1.0 + self.contention * (n - 1.0) + self.coherency * n * (n - 1.0))
    }

    /// Beyond this count more processors carry less; `None` where more never do.
    pub(crate) fn best_count(&self) -> Option<f64> {
        (self.coherency > 1e-9).then(|| ((1.0 - self.contention).max(0.0) / self.coherency).sqrt().max(1.0))
    }
}

/// Gauss with the largest pivot; the last column is the right side.
fn solve(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = matrix.len();
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            return None;
        }
        let pivot = matrix[column].clone();
        for (row, line) in matrix.iter_mut().enumerate() {
            if row != column {
                let factor = line[column] / pivot[column];
                for (cell, above) in line.iter_mut().zip(&pivot) {
                    *cell -= factor * above;
                }
            }
        }
    }
    Some((0..size).map(|row| matrix[row][size] / matrix[row][row]).collect())
}

impl Scaling {
    /// What it shows and what limits it, in sentences.
    pub(crate) fn words(&self) -> String {
        let (Some(first), Some(best)) =
            (self.points.first(), self.points.iter().max_by(|a, b| a.per_s.total_cmp(&b.per_s)))
        else {
            return String::new();
        };
        let grown = best.per_s / first.per_s;
        let mut words = if grown < GROWTH || best.processors == first.processors {
            format!(
                "{}: more than {} carry no more than its {}/s.",
                self.backend,
                crate::statistics::plural(first.processors as usize, "processor"),
                rate(first.per_s)
            )
        } else {
            format!(
                "{}: {} carry {}/s, {} times what {} does.",
                self.backend,
                crate::statistics::plural(best.processors as usize, "processor"),
                rate(best.per_s),
                significant(grown, 2),
                crate::statistics::plural(first.processors as usize, "processor"),
            )
        };
        if let Some(law) = &self.law {
            words.push_str(&format!(
                " Fitted: {}/s for one, contention {} %, coherency {} %",
                rate(law.one_per_s),
                significant(law.contention * 100.0, 2),
                significant(law.coherency * 100.0, 2)
            ));
            match law.best_count().filter(|count| *count < 1_000.0) {
                Some(count) => words.push_str(&format!("; by the law {count:.0} carry the most.")),
                None => words.push('.'),
            }
        }
        words.push(' ');
        words.push_str(&self.limit(best));
        words
    }

    /// What limits it on this machine.
    fn limit(&self, best: &Point) -> String {
        let cores = f64::from(self.cores.max(1));
        let all = if self.cores == 1 { "core".to_owned() } else { format!("{} cores", self.cores) };
        match best.cores_used {
            Some(used) if used >= FULL_MACHINE * cores => format!(
                "The machine is the limit: at its best, services, broker and load generator keep {} of its {all} busy, \
                 so further processors only share them.",
                significant(used, 2)
            ),
            Some(used) => format!(
                "The machine's {all} are not the limit ({} busy at its best): requests wait for each other elsewhere, \
                 in the hops before the processors, in the broker or for a place in flight.",
                significant(used, 2)
            ),
            None => "What the services used could not be watched, so the limit is not known.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(law: &Law) -> Vec<(u32, f64)> {
        [1, 2, 4, 8, 16].map(|count| (count, law.at(f64::from(count)))).to_vec()
    }

    #[test]
    fn the_law_that_made_the_points_is_found_again() {
        let law = Law { one_per_s: 2_000.0, contention: 0.08, coherency: 0.004 };
        let found = Law::fit(&curve(&law)).unwrap();
        assert!((found.one_per_s - 2_000.0).abs() < 1e-3, "{found:?}");
        assert!(
            (found.contention - 0.08).abs() < 1e-9 && (found.coherency - 0.004).abs() < 1e-9,
            "{found:?}"
        );
        // √(0.92 / 0.004)
        assert!((found.best_count().unwrap() - 15.166).abs() < 1e-2);
    }

    #[test]
    fn growth_without_bound_has_no_costs_and_a_flat_line_is_all_contention() {
        let linear: Vec<_> = [1, 2, 4, 8].map(|count| (count, 100.0 * f64::from(count))).to_vec();
        let found = Law::fit(&linear).unwrap();
        assert!(found.contention.abs() < 1e-9 && found.coherency.abs() < 1e-9, "{found:?}");
        // More than linear is no negative cost.
        let above: Vec<_> = [1, 2, 4, 8].map(|count| (count, 100.0 * f64::from(count).powf(1.2))).to_vec();
        let found = Law::fit(&above).unwrap();
        assert_eq!((found.contention, found.coherency), (0.0, 0.0));
        let flat: Vec<_> = [1, 2, 4, 8].map(|count| (count, 500.0)).to_vec();
        let found = Law::fit(&flat).unwrap();
        assert!((found.contention - 1.0).abs() < 1e-6 && found.coherency < 1e-6, "{found:?}");
        assert_eq!(Law::fit(&[(1, 1.0), (2, 2.0)]), None);
    }

    #[test]
    fn noise_moves_the_curve_a_little() {
        let law = Law { one_per_s: 1_000.0, contention: 0.2, coherency: 0.01 };
        let noisy: Vec<_> = curve(&law)
            .into_iter()
            .zip([1.02, 0.98, 1.01, 0.99, 1.0])
            .map(|((n, x), f)| (n, x * f))
            .collect();
        let found = Law::fit(&noisy).unwrap();
        for (count, per_s) in curve(&law) {
            assert!((found.at(f64::from(count)) / per_s - 1.0).abs() < 0.04, "{count}: {found:?}");
        }
    }
}
