//! Reasons to doubt a figure, found in the record.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{Metric, TRIALS_MIN, by_round, measured_phases};
use crate::record::{
    DeliveryVerdict, Durability, LoadVerdict, Model, Phase, Provisioner, Run, Subject, Trial, Warning,
};

/// Trials of one subject whose highest figure exceeds the lowest by more than this factor are unstable.
const UNSTABLE_SPREAD: f64 = 1.5;
/// Load of other programs at the start, as a share of the cores, above which the machine counts as busy.
const BUSY_SHARE: f64 = 0.5;
/// Cores below which subject, generator and consumers cannot keep out of each other's way.
const CORES_TO_SHARE: u32 = 4;

/// Codes of the warnings that [`super::summarize`] finds; stable, in the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WarningCode {
    /// The run was interrupted.
    Partial,
    /// A promise was broken.
    DeliveryViolated,
    /// Acknowledgements of the subjects survive different things.
    DurabilityDiffers,
    /// Subjects were started in different ways.
    ProvisionerDiffers,
    /// Fewer trials than an interval needs.
    TooFewTrials,
    /// The harness, not the subject, was the limit.
    GeneratorLimited,
    /// The subject did not keep up with the plan.
    OfferedRateNotReached,
    /// Trials of one subject differ widely.
    UnstableTrials,
    /// Consumers were still waiting when the deadline passed.
    DrainDeadlinePassed,
    /// Messages were rejected or stayed without an answer.
    ErrorsSeen,
    /// Percentiles of a closed phase.
    ClosedModelPercentiles,
    /// Subject and harness share few cores.
    CoresShared,
    /// CPU and memory of the subject could not be seen.
    SubjectUnobserved,
    /// CPU and memory contain the harness's.
    EmbeddedResources,
    /// Something else kept the machine busy at the start.
    MachineBusy,
}

impl WarningCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::Partial,
        Self::DeliveryViolated,
        Self::DurabilityDiffers,
        Self::ProvisionerDiffers,
        Self::TooFewTrials,
        Self::GeneratorLimited,
        Self::OfferedRateNotReached,
        Self::UnstableTrials,
        Self::DrainDeadlinePassed,
        Self::ErrorsSeen,
        Self::ClosedModelPercentiles,
        Self::CoresShared,
        Self::SubjectUnobserved,
        Self::EmbeddedResources,
        Self::MachineBusy,
    ];

    /// As written in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::DeliveryViolated => "delivery-violated",
            Self::DurabilityDiffers => "durability-differs",
            Self::ProvisionerDiffers => "provisioner-differs",
            Self::TooFewTrials => "too-few-trials",
            Self::GeneratorLimited => "generator-limited",
            Self::OfferedRateNotReached => "offered-rate-not-reached",
            Self::UnstableTrials => "unstable-trials",
            Self::DrainDeadlinePassed => "drain-deadline-passed",
            Self::ErrorsSeen => "errors-seen",
            Self::ClosedModelPercentiles => "closed-model-percentiles",
            Self::CoresShared => "cores-shared",
            Self::SubjectUnobserved => "subject-unobserved",
            Self::EmbeddedResources => "embedded-resources",
            Self::MachineBusy => "machine-busy",
        }
    }

    /// A heading of a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Partial => "Interrupted",
            Self::DeliveryViolated => "Broken promise",
            Self::DurabilityDiffers => "Not the same promise",
            Self::ProvisionerDiffers => "Not started the same way",
            Self::TooFewTrials => "Too few trials",
            Self::GeneratorLimited => "Limited by the harness",
            Self::OfferedRateNotReached => "Did not keep up",
            Self::UnstableTrials => "Trials disagree",
            Self::DrainDeadlinePassed => "Lost may be late",
            Self::ErrorsSeen => "Not all was accepted",
            Self::ClosedModelPercentiles => "Latency at full load",
            Self::CoresShared => "Shared cores",
            Self::SubjectUnobserved => "Cost unknown",
            Self::EmbeddedResources => "Cost includes the harness",
            Self::MachineBusy => "Busy machine",
        }
    }

    /// Whether it limits the comparison itself, so that it stands right below the answer.
    pub fn limits_comparison(self) -> bool {
        self <= Self::DrainDeadlinePassed
    }
}

impl fmt::Display for WarningCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WarningCode {
    type Err = ();

    fn from_str(code: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|known| known.as_str() == code).ok_or(())
    }
}

/// All warnings of a run, the weightiest first.
pub(super) fn find(run: &Run) -> Vec<Warning> {
    let mut found = Found::default();
    found.about_run(run);
    for subject in &run.subjects {
        found.about_promises(subject);
        found.about_load(subject);
        found.about_cost(subject);
    }
    found.about_spread(run);
    found.warnings.sort_by_key(|(code, _)| *code);
    found.warnings.into_iter().map(|(_, warning)| warning).collect()
}

/// `violated` if any trial's promise was broken, `None` when nothing was measured.
pub(super) fn delivery_verdict(run: &Run) -> Option<DeliveryVerdict> {
    let mut trials = run.subjects.iter().flat_map(|subject| &subject.trials).peekable();
    trials.peek()?;
    let mut probes =
        run.capacity.iter().flat_map(|search| &search.subjects).flat_map(|subject| &subject.probes);
    let violated = trials.any(|trial| trial.delivery.verdict == DeliveryVerdict::Violated)
        || probes.any(|probe| !probe.violations.is_empty());
    Some(if violated { DeliveryVerdict::Violated } else { DeliveryVerdict::Kept })
}

#[derive(Default)]
struct Found {
    warnings: Vec<(WarningCode, Warning)>,
}

impl Found {
    fn push(&mut self, code: WarningCode, subject: Option<&Subject>, text: String) {
        let subject = subject.map(|subject| subject.name.clone());
        self.warnings.push((code, Warning { code: code.as_str().to_owned(), subject, text }));
    }

    fn about_run(&mut self, run: &Run) {
        if run.partial {
            self.push(
                WarningCode::Partial,
                None,
                "The run was interrupted: what was measured until then is here, the rest is not.".to_owned(),
            );
        }
        self.about_differences(run);
        let trials = run.subjects.iter().map(|subject| subject.trials.len()).min().unwrap_or(0);
        if trials < TRIALS_MIN && !run.subjects.is_empty() {
            self.push(
                WarningCode::TooFewTrials,
                None,
                format!(
                    "{}: intervals and verdicts need at least {TRIALS_MIN} trials of each subject.",
                    plural(trials, "trial")
                ),
            );
        }
        if measured(run).any(|(_, _, phase)| phase.model == Model::Closed) {
            self.push(
                WarningCode::ClosedModelPercentiles,
                None,
                "In a closed phase the next message waits for an earlier answer, so its latencies say how long \
                 the chosen number in flight takes, not what a client with a schedule of its own would see."
                    .to_owned(),
            );
        }
        let environment = &run.environment;
        if environment.cores > 0 && environment.cores < CORES_TO_SHARE {
            self.push(
                WarningCode::CoresShared,
                None,
                format!(
                    "Subjects, load generator and consumers share {}: expect higher figures where each has \
                     its own.",
                    plural(environment.cores as usize, "core")
                ),
            );
        }
        if let Some(load) = environment.load_average_1m
            && load > BUSY_SHARE * f64::from(environment.cores.max(1))
        {
            self.push(
                WarningCode::MachineBusy,
                None,
                format!(
                    "The load average was {load:.1} on {} before the first trial: something else was running.",
                    plural(environment.cores as usize, "core")
                ),
            );
        }
    }

    fn about_differences(&mut self, run: &Run) {
        let mut by_durability: BTreeMap<Durability, Vec<&str>> = BTreeMap::new();
        let mut by_provisioner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for subject in &run.subjects {
            by_durability.entry(subject.durability).or_default().push(&subject.name);
            // An embedded queue is another kind of thing, not another way to start the same one.
            if subject.provisioner != Provisioner::Embedded {
                by_provisioner.entry(provisioner_word(subject.provisioner)).or_default().push(&subject.name);
            }
        }
        if by_durability.len() > 1 {
            let parts: Vec<String> = by_durability
                .iter()
                .map(|(class, names)| {
                    let what = match class {
                        Durability::Volatile => "nothing",
                        Durability::ProcessCrash => "a crash of the server",
                        Durability::PowerLoss => "a loss of power",
                    };
                    format!("acknowledgements of {} survive {what}", and(names))
                })
                .collect();
            self.push(WarningCode::DurabilityDiffers, None, sentence(&parts));
        }
        if by_provisioner.len() > 1 {
            let parts: Vec<String> =
                by_provisioner.iter().map(|(way, names)| format!("{} {way}", and(names))).collect();
            self.push(
                WarningCode::ProvisionerDiffers,
                None,
                format!(
                    "Started differently: {}. Containers and native processes differ in network and file system.",
                    parts.join("; ")
                ),
            );
        }
    }

    fn about_promises(&mut self, subject: &Subject) {
        let mut violations: Vec<&str> = Vec::new();
        for trial in subject.trials.iter().filter(|t| t.delivery.verdict == DeliveryVerdict::Violated) {
            for text in &trial.delivery.violations {
                if !violations.contains(&text.as_str()) {
                    violations.push(text);
                }
            }
        }
        let broken = count(subject, |trial| trial.delivery.verdict == DeliveryVerdict::Violated);
        if broken > 0 {
            let why =
                if violations.is_empty() { String::new() } else { format!(": {}", violations.join("; ")) };
            let trials = plural(subject.trials.len(), "trial");
            self.push(
                WarningCode::DeliveryViolated,
                Some(subject),
                format!("{} broke its delivery promise in {broken} of {trials}{why}.", subject.name),
            );
        }
        let late = count(subject, |trial| trial.delivery.drain_deadline_passed);
        if late > 0 {
            self.push(
                WarningCode::DrainDeadlinePassed,
                Some(subject),
                format!(
                    "{} still had messages to deliver when the drain deadline passed in {late} of {}: what is \
                     counted as lost may only be late.",
                    subject.name,
                    plural(subject.trials.len(), "trial")
                ),
            );
        }
        let errors: u64 = subject.trials.iter().map(|t| t.delivery.rejected).sum();
        let unknown: u64 = subject.trials.iter().map(|t| t.delivery.unknown).sum();
        if errors + unknown > 0 {
            self.push(
                WarningCode::ErrorsSeen,
                Some(subject),
                format!(
                    "{} rejected {errors} messages and left {unknown} without a clear answer; neither has a \
                     response time.",
                    subject.name
                ),
            );
        }
    }

    fn about_load(&mut self, subject: &Subject) {
        let verdicts = [
            (
                LoadVerdict::GeneratorLimited,
                WarningCode::GeneratorLimited,
                "the harness itself did not keep up: these figures are not the subject's",
            ),
            (
                LoadVerdict::OfferedRateNotReached,
                WarningCode::OfferedRateNotReached,
                "it fell behind the offered rate: its response times grow with the length of the phase",
            ),
        ];
        for (verdict, code, text) in verdicts {
            let mut phases: Vec<&str> = Vec::new();
            for phase in subject.trials.iter().flat_map(|trial| &trial.phases) {
                let name = phase.name.as_str();
                if phase.measured && phase.load_verdict == verdict && !phases.contains(&name) {
                    phases.push(name);
                }
            }
            if !phases.is_empty() {
                self.push(code, Some(subject), format!("{} in {}: {text}.", subject.name, and(&phases)));
            }
        }
    }

    fn about_cost(&mut self, subject: &Subject) {
        if subject.trials.is_empty() || subject.trials.iter().any(|trial| trial.resources.subject_observed) {
            return;
        }
        let (code, text) = if subject.provisioner == Provisioner::Embedded {
            (
                WarningCode::EmbeddedResources,
                "runs inside the trial's process: its CPU and memory contain those of the harness",
            )
        } else {
            (WarningCode::SubjectUnobserved, "runs where its CPU and memory cannot be seen from here")
        };
        self.push(code, Some(subject), format!("{} {text}.", subject.name));
    }

    fn about_spread(&mut self, run: &Run) {
        for subject in &run.subjects {
            let mut unstable: Vec<String> = Vec::new();
            for phase in measured_phases(run) {
                for metric in [Metric::Throughput, Metric::ResponseP95] {
                    let values: Vec<f64> = by_round(subject, &phase, metric).into_values().collect();
                    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                    let high = values.iter().copied().fold(0.0, f64::max);
                    if values.len() > 1 && low > 0.0 && high / low > UNSTABLE_SPREAD {
                        unstable.push(format!("{} in {phase} by {:.1} times", metric.title(), high / low));
                    }
                }
            }
            if !unstable.is_empty() {
                let parts: Vec<&str> = unstable.iter().map(String::as_str).collect();
                self.push(
                    WarningCode::UnstableTrials,
                    Some(subject),
                    format!("Trials of {} differ: {}.", subject.name, and(&parts)),
                );
            }
        }
    }
}

fn measured(run: &Run) -> impl Iterator<Item = (&Subject, &Trial, &Phase)> {
    run.subjects.iter().flat_map(|subject| {
        subject.trials.iter().flat_map(move |trial| {
            trial.phases.iter().filter(|phase| phase.measured).map(move |phase| (subject, trial, phase))
        })
    })
}

fn count(subject: &Subject, matches: impl Fn(&Trial) -> bool) -> usize {
    subject.trials.iter().filter(|trial| matches(trial)).count()
}

fn provisioner_word(provisioner: Provisioner) -> &'static str {
    match provisioner {
        Provisioner::Embedded => "embedded",
        Provisioner::Docker => "in a container",
        Provisioner::Native => "as a native process",
        Provisioner::External => "at an external address",
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn and(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// `1 trial`, `2 trials`.
pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn sentence(parts: &[String]) -> String {
    let text = parts.join("; ");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => text,
    }
}
