//! Who does not answer, decided from what several members saw.
//!
//! A member is asked by a few others ([`targets`]: [`OBSERVERS`] each, chosen by hash, so that the number of
//! questions grows with the cluster and not with its square) and by the leader; whomever the leader cannot
//! reach is asked by everybody ([`Judge::suspects`]). The leader proposes a removal only when it has failed
//! to reach a member as often as the threshold, at least one other has too, and nobody has heard from it:
//! one broken link removes nobody. It never decides without a quorum, about a member that has only just
//! joined, or so that too few are left to decide anything.
//!
//! Nothing here looks at a clock: times are durations since the process started, passed in. Memory is
//! bounded by members × members.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{event::ClusterStatus, name::NodeId, placement::key_hash};

/// How many members besides the leader watch each member.
pub const OBSERVERS: usize = 3;

/// How members are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Between two questions to the same member.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// How many questions in a row must go unanswered.
    pub failure_threshold: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(2), failure_threshold: 3 }
    }
}

impl HealthSettings {
    /// How long a silent member stays undecided, at most, once everybody asks it.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.interval * self.failure_threshold + self.timeout
    }

    /// How long what an observer said counts.
    #[must_use]
    pub fn freshness(&self) -> Duration {
        self.interval * 2 + self.timeout
    }
}

/// Whom a member watches: the [`OBSERVERS`] that follow it when all stand in a circle ordered by the hash of
/// their ids, whatever the order of `members`. So everybody is watched by as many.
#[must_use]
pub fn targets<'a>(me: &NodeId, members: impl Iterator<Item = &'a NodeId>) -> BTreeSet<NodeId> {
    let mut circle: Vec<_> = members.map(|node| (key_hash(node.as_str().as_bytes()), node)).collect();
    circle.sort_unstable();
    let Some(mine) = circle.iter().position(|(_, node)| *node == me) else { return BTreeSet::new() };
    let others = OBSERVERS.min(circle.len() - 1);
    (1..=others).map(|step| circle[(mine + step) % circle.len()].1.clone()).collect()
}

/// What an observer knows of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// Questions in a row that went unanswered.
    pub failures: u32,
    /// When it last answered.
    pub answered_at: Option<Duration>,
}

/// What an observer tells the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who saw it.
    pub observer: NodeId,
    /// Questions in a row that went unanswered, for each member asked lately.
    pub failures: BTreeMap<NodeId, u32>,
}

/// What one member has seen of others.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    seen: BTreeMap<NodeId, Seen>,
}

impl Observations {
    /// Notes whether a member answered.
    pub fn record(&mut self, node: &NodeId, answered: bool, now: Duration) {
        let seen = self.seen.entry(node.clone()).or_default();
        if answered {
            *seen = Seen { failures: 0, answered_at: Some(now) };
        } else {
            seen.failures = seen.failures.saturating_add(1);
        }
    }

    /// Forgets whoever is not watched any more.
    pub fn retain(&mut self, watched: &BTreeSet<NodeId>) {
        self.seen.retain(|node, _| watched.contains(node));
    }

    /// Forgets what is known of one member, as after its restart.
    pub fn forget(&mut self, node: &NodeId) {
        self.seen.remove(node);
    }

    /// What is known of one member.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Seen {
        self.seen.get(node).copied().unwrap_or_default()
    }

    /// Everybody watched, and what is known of them.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, Seen)> {
        self.seen.iter().map(|(node, seen)| (node, *seen))
    }

    /// What to tell the leader.
    #[must_use]
    pub fn report(&self, observer: &NodeId) -> Report {
        let failures = self.seen.iter().map(|(node, seen)| (node.clone(), seen.failures)).collect();
        Report { observer: observer.clone(), failures }
    }
}

/// What the leader has to look at when it decides.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The leader itself.
    pub me: &'a NodeId,
    /// All members, and when this leader first knew of their present start.
    pub members: &'a BTreeMap<NodeId, Duration>,
    /// What the leader has seen itself.
    pub observations: &'a Observations,
    /// Whether a majority has confirmed its leadership lately.
    pub has_quorum: bool,
    /// Now.
    pub now: Duration,
}

/// The leader's memory of what others told it; a new leader begins with none.
#[derive(Clone, Debug)]
pub struct Judge {
    settings: HealthSettings,
    since: Duration,
    reports: BTreeMap<NodeId, (Duration, Report)>,
}

impl Judge {
    /// A judge that begins to lead now.
    #[must_use]
    pub fn new(settings: HealthSettings, now: Duration) -> Self {
        Self { settings, since: now, reports: BTreeMap::new() }
    }

    /// Takes what a member saw; only its last word counts.
    pub fn hear(&mut self, report: Report, now: Duration) {
        self.reports.insert(report.observer.clone(), (now, report));
    }

    /// Forgets what was said by and about a member, as after its restart or removal.
    pub fn forget(&mut self, node: &NodeId) {
        self.reports.remove(node);
        for (_, report) in self.reports.values_mut() {
            report.failures.remove(node);
        }
    }

    /// Whom the leader cannot reach: everybody should ask them now.
    #[must_use]
    pub fn suspects(&self, scene: &Scene<'_>) -> BTreeSet<NodeId> {
        let failing = |node: &&NodeId| *node != scene.me && scene.observations.get(node).failures > 0;
        scene.members.keys().filter(failing).cloned().collect()
    }

    /// Who is to be removed: at most one at a time, so that each decision sees what became of the last.
    #[must_use]
    pub fn verdict(&self, scene: &Scene<'_>) -> Option<NodeId> {
        let threshold = self.settings.failure_threshold;
        let grace = self.settings.interval * threshold;
        if !scene.has_quorum || scene.now.saturating_sub(self.since) < grace {
            return None;
        }
        let failing = |node: &NodeId| node != scene.me && scene.observations.get(node).failures >= threshold;
        let total = scene.members.len();
        let answering = scene.members.keys().filter(|node| !failing(node)).count();
        if answering <= total / 2 {
            return None;
        }
        let settled = |node: &NodeId| {
            scene.members.get(node).is_some_and(|since| scene.now.saturating_sub(*since) >= grace)
        };
        let condemned = |node: &&NodeId| failing(node) && settled(node) && self.confirmed(node, scene);
        scene.members.keys().find(condemned).cloned()
    }

    /// Somebody else has failed as often, and nobody has heard from it.
    fn confirmed(&self, node: &NodeId, scene: &Scene<'_>) -> bool {
        let fresh = self.reports.values().filter(|(at, report)| {
            report.observer != *node
                && report.observer != *scene.me
                && scene.members.contains_key(&report.observer)
                && scene.now.saturating_sub(*at) <= self.settings.freshness()
        });
        let said: Vec<u32> = fresh.filter_map(|(_, report)| report.failures.get(node).copied()).collect();
        let heard = said.contains(&0);
        !heard && said.iter().any(|failures| *failures >= self.settings.failure_threshold)
    }
}

/// What so many silent members make of a cluster; without a leader in reach it is critical.
#[must_use]
pub fn status(total: usize, unhealthy: usize, has_leader: bool) -> ClusterStatus {
    let healthy = total.saturating_sub(unhealthy);
    if !has_leader || healthy <= total / 2 {
        ClusterStatus::Critical
    } else if unhealthy > 0 {
        ClusterStatus::Degraded
    } else {
        ClusterStatus::Healthy
    }
}

#[cfg(test)]
mod tests;
