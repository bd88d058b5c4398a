//! Trials over the null subject: the harness keeps its own books straight.

use super::*;
use crate::subject::null::Null;

fn spec(profile: &str) -> TrialSpec {
    TrialSpec {
        subject: "null".to_owned(),
        index: 0,
        position: 0,
        profile: Arc::new(Profile::parse(profile, "test").unwrap()),
        seed: 1,
        shard: Shard::WHOLE,
        trial_id: 77,
        message_ids: MessageIds::None,
        embedded: true,
    }
}

fn run_null(profile: &str) -> TrialOutcome {
    let spec = spec(profile);
    let plan = Arc::new(Plan::new(&spec.profile, spec.seed, spec.shard).unwrap());
    run(&Arc::new(Null::default()), &plan, &spec, &CancellationToken::new(), &mut |_| {}).unwrap()
}

const OPEN: &str = r#"
name = "open"
[workload]
payload = "128B"
producers = 2
consumers = 2
groups = 2
keys = { kind = "uniform", count = 10 }
[[phase]]
name = "steady"
model = "open"
rate = "2k/s"
duration = "500ms"
[[phase]]
name = "burst"
model = "closed"
in_flight = 64
duration = "100ms"
"#;

#[test]
fn every_message_is_accounted_for_in_every_group() {
    let outcome = run_null(OPEN);
    let delivery = &outcome.trial.delivery;
    assert_eq!(delivery.attempted, delivery.acknowledged);
    assert_eq!(delivery.received, delivery.acknowledged * 2, "two groups");
    assert_eq!((delivery.lost, delivery.duplicated, delivery.reordered), (0, 0, 0));
    assert_eq!((delivery.corrupted, delivery.stray, delivery.unknown), (0, 0, 0));
    let [steady, burst] = &outcome.trial.phases[..] else { panic!("two phases") };
    assert_eq!(steady.response_us.count, 1_000, "every slot of the plan was sent");
    assert_eq!(steady.end_to_end_us.count, 2_000);
    assert_eq!(steady.response_us.count + burst.response_us.count, delivery.acknowledged);
    assert_eq!(steady.offered_per_s, Some(2_000.0));
    let windows = &outcome.trial.series.windows;
    assert_eq!(windows.iter().map(|w| w.sent).sum::<u64>(), delivery.attempted);
    assert_eq!(windows.iter().map(|w| w.received).sum::<u64>(), delivery.received);
    assert_eq!(windows.last().unwrap().backlog, Some(0));
}

#[test]
fn a_backlog_is_built_and_drained() {
    let outcome = run_null(
        r#"
name = "backlog"
[workload]
payload = "128B"
[[phase]]
name = "build"
model = "open"
rate = "10k/s"
duration = "300ms"
consumers = "paused"
[[phase]]
name = "drain"
model = "open"
rate = "1k/s"
duration = "300ms"
"#,
    );
    let backlog = outcome.trial.backlog.unwrap();
    assert_eq!(backlog.messages, 3_000);
    assert!(backlog.build_s >= 0.29, "{backlog:?}");
    assert!(backlog.time_to_parity_s < 0.3 && backlog.drain_per_s > 10_000.0, "{backlog:?}");
    assert_eq!(outcome.trial.delivery.lost, 0);
}

#[test]
fn a_stop_ends_a_long_trial_early_with_what_was_measured() {
    let spec = spec(&OPEN.replace("500ms", "1h"));
    let plan = Arc::new(Plan::new(&spec.profile, spec.seed, spec.shard).unwrap());
    let stop = CancellationToken::new();
    let outcome = run(&Arc::new(Null::default()), &plan, &spec, &stop, &mut |event| {
        if let Event::Progress(snapshot) = event
            && snapshot.acknowledged > 100
        {
            stop.cancel();
        }
    })
    .unwrap();
    assert!(outcome.partial);
    assert_eq!(outcome.trial.phases.len(), 1, "the second phase was not begun");
    assert!(outcome.trial.phases[0].response_us.count > 100);
    assert_eq!(outcome.trial.delivery.lost, 0);
}

#[test]
fn every_topic_has_producers_groups_and_consumers_of_its_own() {
    let spec = spec(&OPEN.replace("producers = 2", "producers = 2\ntopics = 3"));
    let plan = Arc::new(Plan::new(&spec.profile, spec.seed, spec.shard).unwrap());
    let topics: Vec<_> = (0..3).map(|_| Arc::new(Null::default())).collect();
    let outcome = run_topics(&topics, &plan, &spec, &CancellationToken::new(), None, &mut |_| {}).unwrap();
    let delivery = &outcome.trial.delivery;
    assert_eq!(outcome.ledger.producers.len(), 6);
    assert_eq!(outcome.ledger.consumers.len(), 12, "three topics, two groups, two consumers");
    assert_eq!(outcome.trial.phases[0].response_us.count, 1_000, "the rate is of all topics together");
    assert_eq!(delivery.received, delivery.acknowledged * 2, "two groups");
    assert_eq!((delivery.lost, delivery.duplicated, delivery.reordered, delivery.stray), (0, 0, 0, 0));
    for queue in &topics {
        assert!(queue.statistics().accepted > 0, "every topic was sent to");
    }
}
