//! One trial over a cluster, in this process: load, then ask every node for all that was acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;

use queuebench_reports::record::DeliveryVerdict;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::check::{Held, held};
use super::subject::{Cluster, Written};
use super::{ClusterConfig, ClusterOperation};
use crate::event::Event;
use crate::operation;
use crate::plan::Plan;
use crate::trial::{TrialOutcome, TrialSpec};

/// Lost keys that a violation names.
const NAMED_MAX: usize = 3;

/// Runs a trial. What the nodes make of their deaths is not seen from here.
///
/// # Errors
/// When the profile names an operation that there is not, or the load cannot be made.
pub fn run(
    config: &ClusterConfig,
    plan: &Arc<Plan>,
    spec: &TrialSpec,
    stop: &CancellationToken,
    events: &mut dyn FnMut(Event),
) -> anyhow::Result<TrialOutcome> {
    let phases = &spec.profile.phases;
    let operations = phases
        .iter()
        .map(|phase| ClusterOperation::of_phase(phase.operation.as_deref()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(anyhow::Error::msg)?;
    let cluster = Arc::new(Cluster { config: config.clone(), plan: Arc::clone(plan), operations });
    let outcome = operation::run(&cluster, plan, spec, stop, events)?;
    let (mut trial, leaves) = (outcome.trial, outcome.leaves);

    let written: Vec<Written> = leaves.iter().flat_map(|left| left.written.iter().cloned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = LocalSet::new().block_on(&runtime, held(config, &written));
    let mut lost = BTreeSet::new();
    for (endpoint, held) in config.endpoints.iter().zip(found) {
        match held {
            Held::All => {}
            Held::Missing(keys) => lost.extend(keys),
            Held::Unasked(reason) => events(Event::Warning {
                text: format!(
                    "{endpoint} could not be asked for every value that was acknowledged: {reason}"
                ),
            }),
        }
    }
    let forgotten: u64 = leaves.iter().map(|left| left.forgotten).sum();
    if forgotten > 0 {
        events(Event::Warning {
            text: format!("{forgotten} acknowledged values were too many to be asked for after the load"),
        });
    }
    let wrong: u64 = leaves.iter().map(|left| left.wrong).sum();
    let delivery = &mut trial.trial.delivery;
    delivery.promise.delivery = "acknowledged-kept".to_owned();
    delivery.lost = lost.len() as u64;
    delivery.corrupted = wrong;
    if !lost.is_empty() {
        let named: Vec<_> = lost.iter().take(NAMED_MAX).map(String::as_str).collect();
        delivery.violations.push(format!(
            "{} acknowledged values were missing on some node, {} for instance",
            lost.len(),
            named.join(", ")
        ));
    }
    if let Some(example) = leaves.iter().find_map(|left| left.example.as_ref()) {
        delivery.violations.push(format!("{wrong} lookups named a wrong partition: {example}"));
    }
    if !delivery.violations.is_empty() {
        delivery.verdict = DeliveryVerdict::Violated;
    }
    Ok(trial)
}
