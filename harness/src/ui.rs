//! What a person sees while a run works: bars on a terminal, plain lines elsewhere, all on standard error,
//! and the same lines with times in the run's `log.txt`.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use queuebench_reports::record::{DeliveryVerdict, Trial};
use queuebench_testcontainers::Progress;

use crate::event::{Event, Snapshot};

/// The user's side of a run. A clone talks to the same user.
#[derive(Clone, Debug)]
pub struct Ui {
    bars: Option<MultiProgress>,
    log: Arc<Mutex<Option<File>>>,
}

/// Something that takes a while before the load begins.
#[derive(Debug)]
pub struct Step {
    ui: Ui,
    name: String,
    bar: Option<ProgressBar>,
    since: Instant,
}

/// One trial's progress.
#[derive(Debug)]
pub struct TrialBar {
    ui: Ui,
    label: String,
    bar: Option<ProgressBar>,
    planned: Duration,
    state: Mutex<TrialState>,
    hidden: bool,
}

#[derive(Debug)]
struct TrialState {
    phase: String,
    said: Instant,
}

/// Without a terminal, a trial says where it stands this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

impl Ui {
    /// Bars if standard error is a terminal, else plain lines.
    pub fn detect() -> Self {
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Self { bars, log: Arc::default() }
    }

    /// From now on, lines also go to `file`.
    pub fn log_to(&self, file: File) {
        *self.log.lock() = Some(file);
    }

    /// Closes the log file.
    pub fn stop_logging(&self) {
        *self.log.lock() = None;
    }

    /// A line for the user.
    pub fn say(&self, line: &str) {
        self.note(line);
        match &self.bars {
            Some(bars) => {
                // A terminal that is gone has nobody to tell.
                let _ = bars.println(line);
            }
            None => plain(line),
        }
    }

    /// A line for the log only.
    fn note(&self, line: &str) {
        if let Some(file) = self.log.lock().as_mut() {
            let _ = writeln!(file, "{} {line}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"));
        }
    }

    /// Begins something that takes a while.
    pub fn step(&self, name: &str) -> Step {
        self.note(name);
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {msg} {elapsed:.dim}"));
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            plain(name);
        }
        Step { ui: self.clone(), name: name.to_owned(), bar, since: Instant::now() }
    }

    /// Begins a trial.
    pub fn trial(
        &self,
        subject: &str,
        round: u32,
        number: usize,
        total: usize,
        planned: Duration,
    ) -> TrialBar {
        self.work(format!("[{number}/{total}] {subject}, trial {round}"), planned)
    }

    /// Begins a trial under a label of its own.
    pub fn work(&self, label: String, planned: Duration) -> TrialBar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(u64::try_from(planned.as_millis()).unwrap_or(u64::MAX)));
            bar.set_style(style("{prefix:28} {bar:24} {msg}"));
            bar.set_prefix(label.clone());
            bar.set_message("connecting");
            bar
        });
        self.note(&label);
        self.trial_bar(label, bar, planned, false)
    }

    /// A trial that nobody watches.
    pub fn hidden(&self) -> TrialBar {
        self.trial_bar(String::new(), None, Duration::ZERO, true)
    }

    fn trial_bar(
        &self,
        label: String,
        bar: Option<ProgressBar>,
        planned: Duration,
        hidden: bool,
    ) -> TrialBar {
        let state = TrialState { phase: String::new(), said: Instant::now() };
        TrialBar { ui: self.clone(), label, bar, planned, state: Mutex::new(state), hidden }
    }
}

impl Step {
    /// For whoever does the work to say what it does.
    pub fn progress(&self) -> Progress {
        let (ui, bar, name) = (self.ui.clone(), self.bar.clone(), self.name.clone());
        Progress::new(move |text| {
            ui.note(text);
            match &bar {
                Some(bar) => bar.set_message(format!("{name}: {text}")),
                None => plain(&format!("  {text}")),
            }
        })
    }

    /// It is done.
    pub fn done(&self, result: &str) {
        self.end(&format!("✓ {result} in {:.1} s", self.since.elapsed().as_secs_f64()));
    }

    /// It failed.
    pub fn fail(&self, reason: &str) {
        self.end(&format!("✗ {}: {reason}", self.name));
    }

    fn end(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.ui.say(line);
    }
}

impl TrialBar {
    /// Shows an event of the trial's process.
    pub fn event(&self, event: &Event) {
        let mut state = self.state.lock();
        match event {
            Event::Phase { name, .. } => state.phase.clone_from(name),
            Event::Progress(snapshot) => {
                let text = self.text(&state.phase, snapshot);
                if let Some(bar) = &self.bar {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "seconds since the start are positive; saturates"
                    )]
                    bar.set_position((snapshot.elapsed_s * 1e3) as u64);
                    bar.set_message(text);
                } else if !self.hidden && state.said.elapsed() >= PLAIN_INTERVAL {
                    state.said = Instant::now();
                    plain(&format!("{}: {text}", self.label));
                }
            }
            Event::Draining { outstanding } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("draining {outstanding}"));
                }
            }
            Event::Started { .. } | Event::Waiting { .. } | Event::Warning { .. } => {}
        }
    }

    fn text(&self, phase: &str, snapshot: &Snapshot) -> String {
        let left = (self.planned.as_secs_f64() - snapshot.elapsed_s).max(0.0);
        let p95 = snapshot.p95_us.map_or_else(String::new, |us| format!(" p95 {}", latency(us)));
        format!("{phase} {}/s{p95}, {left:.0} s left", count(snapshot.rate_per_s))
    }

    /// Shows what the trial gave.
    pub fn finish(&self, trial: &Trial) {
        let measured = trial.phases.iter().filter(|p| p.measured);
        let phases: Vec<_> = measured
            .map(|p| {
                format!("{} p95 {} at {}/s", p.name, latency(p.response_us.p95), count(p.achieved_per_s))
            })
            .collect();
        let delivery = match trial.delivery.verdict {
            DeliveryVerdict::Kept => "✓ promise kept".to_owned(),
            DeliveryVerdict::Violated => format!("✗ {}", trial.delivery.violations.join(", ")),
        };
        self.end(&format!("{}; {delivery}", phases.join(", ")));
    }

    /// Shows why the trial gave nothing.
    pub fn fail(&self, reason: &str) {
        self.end(&format!("✗ {reason}"));
    }

    /// Shows something that was done meanwhile.
    pub fn remark(&self, text: &str) {
        self.ui.say(&format!("{}: {text}", self.label));
    }

    /// Shows a warning of the trial's process.
    pub fn warn(&self, text: &str) {
        if self.hidden {
            self.ui.note(text);
        } else {
            self.ui.say(&format!("{}: ! {text}", self.label));
        }
    }

    /// Ends it with a line of its own.
    pub fn end(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.hidden {
            self.ui.say(&format!("{}: {line}", self.label));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

#[expect(clippy::print_stderr, reason = "the one place where plain lines are written")]
fn plain(line: &str) {
    eprintln!("{line}");
}

/// A latency with a unit that suits it.
fn latency(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.0} µs") } else { format!("{:.2} ms", us / 1e3) }
}

/// A count with a prefix that suits it.
fn count(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_carry_their_unit() {
        assert_eq!(latency(12.4), "12 µs");
        assert_eq!(latency(12_400.0), "12.40 ms");
        assert_eq!(count(950.4), "950");
        assert_eq!(count(12_345.0), "12.3k");
        assert_eq!(count(2_345_678.0), "2.35M");
    }
}
