//! One trial over a liar, in this process.

use std::sync::Arc;

use queuebench::event::Event;
use queuebench::plan::{Plan, Shard};
use queuebench::profile::{MessageIds, Profile};
use queuebench::trial::{self, TrialOutcome, TrialSpec};
use tokio_util::sync::CancellationToken;

use crate::liar::{Liar, Lie};

/// The outcome, and how many lies were told.
pub(crate) fn trial(lie: Lie, profile: &str) -> (TrialOutcome, u64) {
    let profile = Arc::new(Profile::parse(profile, "test").expect("the profile is right"));
    let spec = TrialSpec {
        subject: "liar".to_owned(),
        index: 0,
        position: 0,
        profile: Arc::clone(&profile),
        seed: 3,
        shard: Shard::WHOLE,
        trial_id: 99,
        message_ids: MessageIds::Unique,
        embedded: true,
    };
    let plan = Arc::new(Plan::new(&profile, spec.seed, spec.shard).expect("the plan needs no files"));
    let liar = Arc::new(Liar::new(lie));
    let mut ignore = |_: Event| {};
    let outcome = trial::run(&liar, &plan, &spec, &CancellationToken::new(), &mut ignore)
        .expect("the liar never fails");
    (outcome, liar.told())
}
