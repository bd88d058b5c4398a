//! Who gives the shards of one trial their cues: which phase begins when, and when the trial is over.
//!
//! A shard knows only its own part: another one's consumers may receive what it sent. So between phases and at
//! the end the shards wait for orders, and whoever sees all of them decides. Pure: it is told of events and of
//! the time, and answers with orders.

use std::time::{Duration, Instant};

use crate::event::{Event, Order, Snapshot};
use crate::profile::Profile;

/// How far ahead a phase is announced, so that every shard has heard of it.
const LEAD_NS: u64 = 30_000_000;
/// Between phases, consumers may catch up this long.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Nothing received for this long: what is missing will not come.
const QUIET: Duration = Duration::from_secs(5);
/// A message without a clear answer may still arrive; so long without any receipt ends the wait for it.
const UNKNOWN_QUIET: Duration = Duration::from_secs(1);

/// The conductor of one trial.
pub(super) struct Conductor {
    phases: usize,
    groups: u64,
    drain_deadline: Duration,
    shards: Vec<Shard>,
    /// The phase that was announced last.
    announced: Option<usize>,
    /// Since when all shards wait for the next cue.
    all_wait_since: Option<Instant>,
    received: u64,
    received_at: Instant,
    ended: bool,
}

#[derive(Clone, Copy, Default)]
struct Shard {
    /// The phase for whose cue it waits; past the last one, it drains.
    waits_for: Option<usize>,
    totals: Snapshot,
}

impl Conductor {
    pub(super) fn new(profile: &Profile, shards: u16, now: Instant) -> Self {
        Self {
            phases: profile.phases.len(),
            groups: u64::from(profile.workload.groups),
            drain_deadline: profile.drain_deadline.0,
            shards: vec![Shard::default(); usize::from(shards)],
            announced: None,
            all_wait_since: None,
            received: 0,
            received_at: now,
            ended: false,
        }
    }

    /// Takes what a shard said.
    pub(super) fn hear(&mut self, shard: usize, event: &Event, now: Instant) {
        let Some(state) = self.shards.get_mut(shard) else { return };
        match event {
            Event::Waiting { phase, totals } => {
                state.waits_for = Some(*phase);
                state.totals = *totals;
            }
            Event::Progress(totals) => state.totals = *totals,
            _ => return,
        }
        let received = self.shards.iter().map(|shard| shard.totals.received).sum();
        if received > self.received {
            self.received = received;
            self.received_at = now;
        }
    }

    /// The next cue, if it is time; `clock_ns` is the machine's monotonic clock.
    pub(super) fn decide(&mut self, now: Instant, clock_ns: u64) -> Option<Order> {
        let next = self.announced.map_or(0, |phase| phase + 1);
        if self.ended || self.shards.iter().any(|shard| shard.waits_for != Some(next)) {
            self.all_wait_since = None;
            return None;
        }
        let waited = now.duration_since(*self.all_wait_since.get_or_insert(now));
        let outstanding = self.outstanding();
        if next < self.phases {
            if next > 0 && outstanding > 0 && waited < CATCH_UP {
                return None;
            }
            self.announced = Some(next);
            self.all_wait_since = None;
            return Some(Order::Begin { phase: next, at_ns: clock_ns + LEAD_NS });
        }
        let quiet = now.duration_since(self.received_at.max(now - waited));
        let unknown: u64 = self.shards.iter().map(|shard| shard.totals.unknown).sum();
        let all_there = outstanding == 0 && (unknown == 0 || quiet >= UNKNOWN_QUIET);
        if !all_there && quiet < QUIET && waited < self.drain_deadline {
            return None;
        }
        self.ended = true;
        Some(Order::End { deadline_passed: waited >= self.drain_deadline && outstanding > 0 })
    }

    /// Whether the shards were told that nothing more is expected.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Acknowledged by anyone and not yet received by anyone, over all groups.
    fn outstanding(&self) -> u64 {
        let acknowledged: u64 = self.shards.iter().map(|shard| shard.totals.acknowledged).sum();
        (acknowledged * self.groups).saturating_sub(self.received)
    }

    /// Where all of them stand together.
    pub(super) fn totals(&self) -> Snapshot {
        self.shards.iter().map(|shard| shard.totals).fold(Snapshot::default(), |sum, one| Snapshot {
            elapsed_s: sum.elapsed_s.max(one.elapsed_s),
            sent: sum.sent + one.sent,
            acknowledged: sum.acknowledged + one.acknowledged,
            received: sum.received + one.received,
            unknown: sum.unknown + one.unknown,
            rate_per_s: sum.rate_per_s + one.rate_per_s,
            // Percentiles do not add up; the highest of the shards is the honest one to show.
            p95_us: [sum.p95_us, one.p95_us].into_iter().flatten().max_by(f64::total_cmp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"
name = "two-phases"
drain_deadline = "20s"
[workload]
payload = "128B"
[[phase]]
name = "a"
model = "open"
rate = "1k/s"
duration = "1s"
[[phase]]
name = "b"
model = "open"
rate = "1k/s"
duration = "1s"
"#;

    fn totals(acknowledged: u64, received: u64, unknown: u64) -> Snapshot {
        Snapshot { acknowledged, received, unknown, ..Snapshot::default() }
    }

    fn waiting(phase: usize, acknowledged: u64, received: u64) -> Event {
        Event::Waiting { phase, totals: totals(acknowledged, received, 0) }
    }

    fn conductor() -> (Conductor, Instant) {
        let now = Instant::now();
        (Conductor::new(&Profile::parse(PROFILE, "test").unwrap(), 2, now), now)
    }

    #[test]
    fn a_phase_begins_for_all_at_once_and_only_when_all_wait() {
        let (mut conductor, now) = conductor();
        conductor.hear(0, &waiting(0, 0, 0), now);
        assert_eq!(conductor.decide(now, 5), None);
        conductor.hear(1, &waiting(0, 0, 0), now);
        assert_eq!(conductor.decide(now, 5), Some(Order::Begin { phase: 0, at_ns: 5 + LEAD_NS }));
        assert_eq!(conductor.decide(now, 5), None, "once");
    }

    #[test]
    fn what_one_shard_sent_and_the_other_received_adds_up() {
        let (mut conductor, now) = conductor();
        for phase in 0..2 {
            conductor.hear(0, &waiting(phase, 100, 0), now);
            conductor.hear(1, &waiting(phase, 0, 60), now);
            if phase == 1 {
                assert_eq!(conductor.decide(now, 0), None, "40 are on their way");
                conductor.hear(1, &Event::Progress(totals(0, 100, 0)), now);
            }
            assert!(matches!(conductor.decide(now, 0), Some(Order::Begin { .. })));
        }
        conductor.hear(0, &waiting(2, 150, 0), now);
        conductor.hear(1, &waiting(2, 0, 149), now);
        assert_eq!(conductor.decide(now, 0), None);
        conductor.hear(1, &Event::Progress(totals(0, 150, 0)), now);
        assert_eq!(conductor.decide(now, 0), Some(Order::End { deadline_passed: false }));
    }

    #[test]
    fn silence_and_the_deadline_end_the_wait() {
        let drained = |wait: Duration, receipts_until: Duration| {
            let (mut conductor, now) = conductor();
            for phase in 0..2 {
                (0..2).for_each(|shard| conductor.hear(shard, &waiting(phase, 0, 0), now));
                conductor.decide(now, 0).unwrap();
            }
            (0..2).for_each(|shard| conductor.hear(shard, &waiting(2, 1_000, 0), now));
            assert_eq!(conductor.decide(now, 0), None);
            for second in 1..=wait.as_secs() {
                let at = Duration::from_secs(second);
                if at <= receipts_until {
                    conductor.hear(0, &Event::Progress(totals(1_000, second, 0)), now + at);
                }
                if let Some(order) = conductor.decide(now + at, 0) {
                    return Some((second, order));
                }
            }
            None
        };
        let quiet = drained(Duration::from_secs(30), Duration::from_secs(2));
        assert_eq!(quiet, Some((7, Order::End { deadline_passed: false })));
        let slow = drained(Duration::from_secs(30), Duration::from_secs(60));
        assert_eq!(slow, Some((20, Order::End { deadline_passed: true })));
    }
}
