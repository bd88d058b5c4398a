use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{HealthSettings, Judge, OBSERVERS, Observations, Scene, status, targets};
use crate::cluster::{event::ClusterStatus, name::NodeId};

const SETTINGS: HealthSettings = HealthSettings {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    failure_threshold: 3,
};

fn id(number: usize) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The leader is node 1; everybody has been a member from the start.
struct Case {
    judge: Judge,
    members: BTreeMap<NodeId, Duration>,
    mine: Observations,
    has_quorum: bool,
}

impl Case {
    fn of(members: usize) -> Self {
        let members = (1..=members).map(|number| (id(number), secs(0))).collect();
        let judge = Judge::new(SETTINGS, secs(0));
        Self { judge, members, mine: Observations::default(), has_quorum: true }
    }

    fn failed(mut self, node: usize, times: u32) -> Self {
        (0..times).for_each(|_| self.mine.record(&id(node), false, secs(90)));
        self
    }

    fn heard(mut self, observer: usize, node: usize, failures: u32, at: u64) -> Self {
        let mut seen = Observations::default();
        if failures == 0 {
            seen.record(&id(node), true, secs(at));
        }
        (0..failures).for_each(|_| seen.record(&id(node), false, secs(at)));
        self.judge.hear(seen.report(&id(observer)), secs(at));
        self
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            me: const_id(&self.members),
            members: &self.members,
            observations: &self.mine,
            has_quorum: self.has_quorum,
            now: secs(100),
        }
    }

    fn verdict(&self) -> Option<NodeId> {
        self.judge.verdict(&self.scene())
    }
}

fn const_id(members: &BTreeMap<NodeId, Duration>) -> &NodeId {
    members.get_key_value(&id(1)).unwrap().0
}

#[test]
fn two_who_failed_as_often_as_the_threshold_remove() {
    assert_eq!(Case::of(3).failed(2, 3).heard(3, 2, 3, 99).verdict(), Some(id(2)));
    assert_eq!(Case::of(3).failed(2, 2).heard(3, 2, 3, 99).verdict(), None);
    assert_eq!(Case::of(3).failed(2, 3).heard(3, 2, 2, 99).verdict(), None);
}

#[test]
fn one_broken_link_removes_nobody() {
    assert_eq!(Case::of(3).failed(2, 99).verdict(), None, "nobody else said anything");
    assert_eq!(Case::of(3).failed(2, 99).heard(3, 2, 0, 99).verdict(), None, "another hears it");
    let split = Case::of(5).failed(2, 99).heard(3, 2, 9, 99).heard(4, 2, 0, 99);
    assert_eq!(split.verdict(), None, "one who hears it outweighs all who do not");
    assert_eq!(Case::of(3).heard(3, 2, 99, 99).verdict(), None, "the leader hears it");
}

#[test]
fn old_news_do_not_count() {
    assert_eq!(Case::of(3).failed(2, 3).heard(3, 2, 3, 87).verdict(), None);
    assert_eq!(Case::of(3).failed(2, 3).heard(3, 2, 3, 88).verdict(), Some(id(2)));
    let outdated_veto = Case::of(4).failed(2, 3).heard(3, 2, 3, 99).heard(4, 2, 0, 10);
    assert_eq!(outdated_veto.verdict(), Some(id(2)));
}

#[test]
fn a_strangers_and_the_suspects_own_word_do_not_count() {
    assert_eq!(Case::of(3).failed(2, 3).heard(9, 2, 3, 99).verdict(), None);
    assert_eq!(Case::of(3).failed(2, 3).heard(2, 2, 3, 99).verdict(), None);
}

#[test]
fn a_majority_must_be_left() {
    assert_eq!(Case::of(2).failed(2, 9).verdict(), None);
    let three_of_five =
        Case::of(5).failed(2, 3).failed(3, 3).failed(4, 3).heard(5, 2, 3, 99).heard(5, 3, 3, 99);
    assert_eq!(three_of_five.verdict(), None);
    let two_of_five = Case::of(5).failed(2, 3).failed(3, 3).heard(5, 2, 3, 99);
    assert_eq!(two_of_five.verdict(), Some(id(2)));
    let mut cut_off = Case::of(3).failed(2, 3).heard(3, 2, 3, 99);
    cut_off.has_quorum = false;
    assert_eq!(cut_off.verdict(), None);
}

#[test]
fn a_new_leader_and_a_new_member_are_given_time() {
    let mut case = Case::of(3).failed(2, 3).heard(3, 2, 3, 99);
    case.members.insert(id(2), secs(86));
    assert_eq!(case.verdict(), None);
    case.members.insert(id(2), secs(85));
    assert_eq!(case.verdict(), Some(id(2)));
    case.judge.since = secs(86);
    assert_eq!(case.verdict(), None);
}

#[test]
fn an_answer_clears_a_member() {
    let mut case = Case::of(3).failed(2, 9).heard(3, 2, 9, 99);
    case.mine.record(&id(2), true, secs(99));
    assert_eq!(case.verdict(), None);
    assert_eq!(case.judge.suspects(&case.scene()), BTreeSet::new());
    case.mine.record(&id(2), false, secs(99));
    assert_eq!(case.judge.suspects(&case.scene()), [id(2)].into());
}

#[test]
fn everybody_is_watched_by_a_few() {
    for size in [1, 2, 3, 4, 5, 40] {
        let members: Vec<_> = (0..size).map(id).collect();
        let mut watched = BTreeMap::<NodeId, usize>::new();
        for me in &members {
            let mine = targets(me, members.iter());
            assert!(!mine.contains(me));
            assert_eq!(mine, targets(me, members.iter().rev()), "whatever the order");
            mine.into_iter().for_each(|target| *watched.entry(target).or_default() += 1);
        }
        for node in &members {
            assert_eq!(watched.get(node).copied().unwrap_or(0), OBSERVERS.min(size - 1), "{node} of {size}");
        }
    }
}

#[test]
fn without_a_majority_or_leader_it_is_critical() {
    assert_eq!(status(3, 0, true), ClusterStatus::Healthy);
    assert_eq!(status(3, 1, true), ClusterStatus::Degraded);
    assert_eq!(status(3, 2, true), ClusterStatus::Critical);
    assert_eq!(status(4, 2, true), ClusterStatus::Critical);
    assert_eq!(status(3, 0, false), ClusterStatus::Critical);
}
