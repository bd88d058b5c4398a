//! The simulated world: nodes, links, time in steps of [`TICK_MS`], and what an outside observer notes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use queuebench_system::cluster::{
    Applied, Event, NodeId, Operation, State,
    event::StateReplaced,
    health::{HealthSettings, targets},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    consensus::{Entry, Leadership},
    node::{Intent, SimNode},
};

pub(crate) const TICK_MS: u64 = 50;
/// Entries a node may lack before it is sent the state instead.
pub(crate) const SNAPSHOT_AFTER: usize = 48;
pub(crate) const HEALTH: HealthSettings = HealthSettings {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    failure_threshold: 3,
};
const JOIN_RETRY_MS: u64 = 1_000;
const ASK_AFTER_SILENCE_MS: u64 = 2_000;

pub(crate) fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(ms).unwrap()).ok()
}

/// Messages that would have crossed the network, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) replication: u64,
    pub(crate) votes: u64,
    pub(crate) probes: u64,
    pub(crate) reports: u64,
    pub(crate) joins: u64,
}

impl Messages {
    pub(crate) fn total(&self) -> u64 {
        self.replication + self.votes + self.probes + self.reports + self.joins
    }
}

/// A client's write, and what the client was told.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) acknowledged: bool,
}

/// A member removed for its silence.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) node: usize,
    pub(crate) at: u64,
    /// When it last was down, paused, replaced without having joined, or cut off from two or more.
    pub(crate) troubled_at: Option<u64>,
}

pub(crate) struct World {
    pub(crate) rng: Pcg64Mcg,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) broken: BTreeSet<(usize, usize)>,
    pub(crate) log: Vec<Entry>,
    pub(crate) oracle: State,
    /// What came of each committed entry, and the state before a rebalance.
    pub(crate) outcomes: Vec<Applied>,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) leader: Option<Leadership>,
    pub(crate) term: u64,
    pub(crate) election_at: u64,
    pub(crate) messages: Messages,
    pub(crate) writes: Vec<Write>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) troubled: BTreeMap<usize, u64>,
    pub(crate) next_raft_id: u64,
    pub(crate) next_incarnation: u64,
    pub(crate) snapshots: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Pcg64Mcg::seed_from_u64(seed),
            now: 0,
            nodes: Vec::new(),
            broken: BTreeSet::new(),
            log: Vec::new(),
            oracle: State::default(),
            outcomes: Vec::new(),
            voters: BTreeSet::new(),
            leader: None,
            term: 0,
            election_at: 0,
            messages: Messages::default(),
            writes: Vec::new(),
            removals: Vec::new(),
            troubled: BTreeMap::new(),
            next_raft_id: 0,
            next_incarnation: 0,
            snapshots: 0,
        }
    }

    pub(crate) fn raft_id(&mut self) -> u64 {
        self.next_raft_id += 1;
        self.next_raft_id
    }

    pub(crate) fn incarnation(&mut self) -> u64 {
        self.next_incarnation += 1;
        self.next_incarnation
    }

    pub(crate) fn add_node(&mut self) -> usize {
        let (raft_id, incarnation) = (self.raft_id(), self.incarnation());
        let mut node = SimNode::new(self.nodes.len() + 1, raft_id, incarnation);
        node.start(incarnation, self.now);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub(crate) fn index_of(&self, id: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *id)
    }

    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        a == b || !self.broken.contains(&(a.min(b), a.max(b)))
    }

    /// Both are at work and can talk.
    pub(crate) fn reach(&self, a: usize, b: usize) -> bool {
        self.linked(a, b) && self.nodes[a].awake(self.now) && self.nodes[b].awake(self.now)
    }

    pub(crate) fn break_link(&mut self, a: usize, b: usize) {
        if a != b {
            self.broken.insert((a.min(b), a.max(b)));
        }
    }

    /// Lets one tick pass.
    pub(crate) fn step(&mut self) {
        self.now += TICK_MS;
        self.note_troubles();
        self.lead();
        self.replicate();
        (0..self.nodes.len()).for_each(|node| self.apply(node));
        (0..self.nodes.len()).for_each(|node| self.watch(node));
        (0..self.nodes.len()).for_each(|node| self.seek_membership(node));
    }

    fn note_troubles(&mut self) {
        for node in 0..self.nodes.len() {
            let cut = |other: &usize| !self.linked(node, *other);
            let listed = self.oracle.members().get(&self.nodes[node].id);
            let replaced = listed.is_some_and(|known| known.member.raft_id != self.nodes[node].raft_id);
            if replaced
                || !self.nodes[node].awake(self.now)
                || (0..self.nodes.len()).filter(cut).take(2).count() == 2
            {
                self.troubled.insert(node, self.now);
            }
        }
    }

    /// Applies what is on a node's disk, a few entries at a time.
    fn apply(&mut self, at: usize) {
        let budget = self.rng.random_range(1..16);
        let node = &mut self.nodes[at];
        if !node.awake(self.now) {
            return;
        }
        for _ in 0..budget {
            let Some(entry) = self.log[..node.received].get(node.applied) else { break };
            node.applied += 1;
            let index = node.applied as u64;
            let events = match entry {
                Entry::Command(command) => node.state.apply(index, command).events,
                Entry::Voters(_) => Vec::new(),
            };
            node.told.push((index, Arc::new(events)));
        }
        let voted_out = !self.voters.contains(&node.raft_id);
        if node.intent == Intent::Leaving && voted_out && !node.state.members().contains_key(&node.id) {
            node.intent = Intent::Out;
            node.crash();
        }
    }

    /// Sends a node the state instead of the entries it lacks.
    pub(crate) fn install_snapshot(&mut self, from: usize, to: usize) {
        let bytes = self.nodes[from].state.to_snapshot().unwrap();
        let applied = self.nodes[from].applied;
        let node = &mut self.nodes[to];
        let state = State::from_snapshot(&bytes).unwrap();
        let told =
            Event::StateReplaced(StateReplaced { from_index: node.applied as u64, to_index: applied as u64 });
        node.state = state;
        node.received = applied;
        node.applied = applied;
        node.told.push((applied as u64, Arc::new(vec![told])));
        self.snapshots += 1;
    }

    /// Asks the members this node watches, each once per interval, and tells the leader.
    fn watch(&mut self, at: usize) {
        let interval = u64::try_from(HEALTH.interval.as_millis()).unwrap();
        let phase = (at as u64 * 7 * TICK_MS) % interval;
        if !self.nodes[at].awake(self.now) || self.now % interval != phase {
            return;
        }
        let leads = self.leader.as_ref().is_some_and(|leader| leader.node == at);
        let version = self.nodes[at].state.topology_version();
        if self.nodes[at].watched.0 != version {
            let node = &self.nodes[at];
            let watched = targets(&node.id, node.state.members().keys());
            self.nodes[at].watched = (version, watched);
        }
        let node = &self.nodes[at];
        let mut asked = node.watched.1.clone();
        if leads {
            asked.extend(node.state.members().keys().cloned());
        }
        asked.extend(node.suspects.iter().filter(|id| node.state.members().contains_key(id)).cloned());
        asked.remove(&node.id);
        let answers: Vec<_> = asked
            .iter()
            .map(|id| {
                // A node that plays a member's part on another disk is not the member.
                let listed = node.state.members().get(id).map(|known| known.member.raft_id);
                let same = |other: usize| listed == Some(self.nodes[other].raft_id);
                let other = self.index_of(id).filter(|other| same(*other));
                (id.clone(), other.is_some_and(|other| self.reach(at, other)))
            })
            .collect();
        self.messages.probes += 2 * answers.len() as u64;
        let elapsed = self.elapsed();
        let node = &mut self.nodes[at];
        node.observations.retain(&asked);
        answers.iter().for_each(|(id, answered)| node.observations.record(id, *answered, elapsed));
        let report = node.observations.report(&node.id);
        if let Some(leader) = self.leader.as_ref().map(|leader| leader.node)
            && leader != at
            && self.reach(at, leader)
            && self.nodes[leader].state.members().contains_key(&report.observer)
        {
            self.messages.reports += 2;
            let suspects = self.hear(report);
            self.nodes[at].suspects = suspects;
        }
    }

    /// Joins if the node is no member yet, or has been removed and has found out.
    fn seek_membership(&mut self, at: usize) {
        let node = &self.nodes[at];
        if !node.awake(self.now) || node.intent != Intent::Member || node.join_at > self.now {
            return;
        }
        if node.joined && self.now - node.last_contact < ASK_AFTER_SILENCE_MS {
            return;
        }
        self.nodes[at].join_at = self.now + JOIN_RETRY_MS + self.rng.random_range(0..4) * TICK_MS;
        let start = self.rng.random_range(0..self.nodes.len());
        let count = self.nodes.len();
        let contact = (0..count).map(|offset| (start + offset) % count).find(|other| {
            let other_node = &self.nodes[*other];
            *other != at && self.reach(at, *other) && other_node.state.members().contains_key(&other_node.id)
        });
        let node = &self.nodes[at];
        let listed_by = |who: &SimNode| {
            who.state.members().get(&node.id).is_some_and(|record| record.member.raft_id == node.raft_id)
        };
        let leads = self.leader.as_ref().map(|leader| leader.node);
        let Some(contact) = contact.or(leads.filter(|leader| *leader == at)) else { return };
        self.messages.joins += 2;
        if node.joined && listed_by(&self.nodes[contact]) {
            return;
        }
        if node.joined
            && self.nodes[contact].state.departed().get(&node.id).is_some_and(|gone| {
                gone.reason != queuebench_system::cluster::command::LeaveReason::HealthCheckFailure
            })
        {
            self.nodes[at].intent = Intent::Out;
            return;
        }
        self.nodes[at].joined = false;
        if let Some(leader) = leads.filter(|leader| self.reach(contact, *leader) && self.reach(at, *leader)) {
            self.messages.joins += 2;
            self.request_join(leader, at);
        }
    }

    /// A client writes through some node; the node forwards to the leader.
    pub(crate) fn client_write(&mut self, key: String, value: String) {
        let via = self.rng.random_range(0..self.nodes.len());
        if let Some(leader) = self.leader.as_ref().map(|leader| leader.node)
            && self.reach(via, leader)
        {
            self.writes.push(Write { key: key.clone(), value: value.clone(), acknowledged: false });
            let value = queuebench_system::cluster::bytes64::Base64Bytes(value.into());
            self.propose_for(Operation::SetCustomData { key, value }, Some(self.writes.len() - 1));
        }
    }

    /// Whether everybody who is meant to be is a member with a vote, has applied everything, and nothing is
    /// left to do.
    pub(crate) fn settled(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        let listed = self.oracle.members();
        leader.idle()
            && self.oracle.rebalance_due().is_none()
            && listed.len() == self.nodes.iter().filter(|node| node.intent == Intent::Member).count()
            && self.nodes.iter().all(|node| match node.intent {
                Intent::Member => {
                    node.joined
                        && node.applied == self.log.len()
                        && self.voters.contains(&node.raft_id)
                        && listed
                            .get(&node.id)
                            .is_some_and(|known| known.incarnation == Some(node.incarnation))
                }
                Intent::Leaving => false,
                Intent::Out => !listed.contains_key(&node.id) && !self.voters.contains(&node.raft_id),
            })
            && self.voters.len() == listed.len()
    }
}
