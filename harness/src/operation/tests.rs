//! Subjects that answer in known ways, and what the record says of them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::plan::{Plan, Shard};
use crate::profile::{MessageIds, Profile};

/// Answers after a while; refuses every 10th slot and leaves every 100th unanswered.
#[derive(Default)]
struct Slow {
    delay: Duration,
    most_at_once: AtomicU32,
    slots: Mutex<BTreeSet<(usize, u64)>>,
}

struct SlowWorker {
    subject: Arc<Slow>,
    at_once: Rc<Cell<u32>>,
    busy_lanes: std::cell::RefCell<BTreeSet<u32>>,
}

struct Shared(Arc<Slow>);

impl Operate for Shared {
    type Worker = SlowWorker;

    async fn worker(&self, _: u16, _: u32) -> Result<SlowWorker, String> {
        Ok(SlowWorker {
            subject: Arc::clone(&self.0),
            at_once: Rc::default(),
            busy_lanes: std::cell::RefCell::default(),
        })
    }
}

impl Worker for SlowWorker {
    type Leaves = u32;

    async fn operate(&self, operation: Operation) -> Outcome {
        assert!(self.subject.slots.lock().unwrap().insert((operation.phase, operation.slot)), "a slot twice");
        assert!(self.busy_lanes.borrow_mut().insert(operation.lane), "a lane does one at a time");
        self.at_once.set(self.at_once.get() + 1);
        self.subject.most_at_once.fetch_max(self.at_once.get(), Ordering::Relaxed);
        tokio::time::sleep(self.subject.delay).await;
        self.at_once.set(self.at_once.get() - 1);
        self.busy_lanes.borrow_mut().remove(&operation.lane);
        match operation.slot {
            slot if slot % 100 == 99 => Outcome::Unknown,
            slot if slot % 10 == 9 => Outcome::Refused,
            _ => Outcome::Done,
        }
    }

    fn leave(self) -> u32 {
        7
    }
}

fn trial(text: &str, delay: Duration) -> (OperationOutcome<u32>, Arc<Slow>) {
    let profile = Arc::new(Profile::parse(text, "test").unwrap());
    let plan = Arc::new(Plan::new(&profile, 1, Shard::WHOLE).unwrap());
    let subject = Arc::new(Slow { delay, ..Slow::default() });
    let spec = TrialSpec {
        subject: "slow".to_owned(),
        index: 0,
        position: 0,
        profile,
        seed: 1,
        shard: Shard::WHOLE,
        trial_id: 1,
        message_ids: MessageIds::None,
        embedded: true,
    };
    let operated = Arc::new(Shared(Arc::clone(&subject)));
    let outcome = run(&operated, &plan, &spec, &CancellationToken::new(), &mut |_| {}).unwrap();
    (outcome, subject)
}

#[test]
fn every_slot_of_an_open_phase_is_operated_once_and_counted_by_its_outcome() {
    let text = r#"
        name = "open"
        [workload]
        payload = "64B"
        producers = 2
        [[phase]]
        name = "steady"
        model = "open"
        rate = "1k/s"
        in_flight = 64
        duration = "500ms"
    "#;
    let (outcome, subject) = trial(text, Duration::from_millis(2));
    let phase = &outcome.trial.trial.phases[0];
    assert_eq!(subject.slots.lock().unwrap().len(), 500);
    assert_eq!((phase.response_us.count, phase.errors, phase.unknown), (450, 45, 5));
    assert_eq!(phase.schedule_lag_us.count, 500);
    assert!(phase.service_us.p50 >= 2_000.0, "{}", phase.service_us.p50);
    assert!(phase.response_us.p50 >= phase.service_us.p50);
    let delivery = &outcome.trial.trial.delivery;
    assert_eq!((delivery.attempted, delivery.acknowledged, delivery.lost), (500, 450, 0));
    assert_eq!(outcome.leaves, [7, 7]);
}

#[test]
fn the_bound_on_operations_in_flight_holds_and_what_waits_for_it_is_late() {
    let text = r#"
        name = "bound"
        [workload]
        payload = "64B"
        [[phase]]
        name = "steady"
        model = "open"
        rate = "1k/s"
        in_flight = 4
        duration = "200ms"
    "#;
    let (outcome, subject) = trial(text, Duration::from_millis(10));
    assert_eq!(subject.most_at_once.load(Ordering::Relaxed), 4);
    let phase = &outcome.trial.trial.phases[0];
    // 200 slots at 4 per 10 ms take 500 ms: the last ones wait for 300.
    assert!(phase.schedule_lag_us.max > 200_000.0, "{}", phase.schedule_lag_us.max);
    assert!(phase.response_us.p99 > 5.0 * phase.service_us.p50);
    assert!(phase.extra.contains_key("blocked"));
}

#[test]
fn a_closed_phase_keeps_its_lanes_busy_until_its_end() {
    let text = r#"
        name = "closed"
        [workload]
        payload = "64B"
        [[phase]]
        name = "full"
        model = "closed"
        in_flight = 8
        duration = "300ms"
    "#;
    let (outcome, subject) = trial(text, Duration::from_millis(5));
    assert_eq!(subject.most_at_once.load(Ordering::Relaxed), 8);
    let delivery = &outcome.trial.trial.delivery;
    assert!(delivery.attempted >= 8 * 20, "{}", delivery.attempted);
    assert_eq!(delivery.attempted, delivery.acknowledged + delivery.rejected + delivery.unknown);
}
