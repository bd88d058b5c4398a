//! The agreed log, as Raft promises it: a leader needs a majority of the votes, commits in order, and when
//! it dies its unfinished entries are there or not.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use queuebench_system::cluster::{
    Applied, Command, NodeId, Operation, State,
    command::LeaveReason,
    duties::{Duty, LeaderView, next_duty},
    health::{Judge, Report, Scene},
};
use rand::RngExt;

use super::{
    node::Intent,
    world::{HEALTH, Removal, SNAPSHOT_AFTER, World, timestamp},
};

const LEASE_MS: u64 = 1_000;
const JOIN_DEADLINE_MS: u64 = 3_000;
const REBALANCE_DELAY: Duration = Duration::from_millis(250);

#[expect(clippy::large_enum_variant, reason = "nearly all entries are of the large one")]
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Command(Command),
    Voters(BTreeSet<u64>),
}

struct Pending {
    entry: Entry,
    write: Option<usize>,
    since: u64,
}

struct Join {
    node: usize,
    raft_id: u64,
    until: u64,
    proposed: bool,
}

pub(crate) struct Leadership {
    pub(crate) node: usize,
    pub(crate) term: u64,
    judge: Judge,
    quorum_at: u64,
    pending: VecDeque<Pending>,
    joins: Vec<Join>,
    /// When this leader first knew of each member's present start.
    known: BTreeMap<NodeId, (Option<u64>, Duration)>,
}

impl Leadership {
    pub(crate) fn idle(&self) -> bool {
        self.pending.is_empty() && self.joins.is_empty()
    }
}

impl World {
    /// Starts the first node's cluster: its vote and the cluster's name are the first two entries.
    pub(crate) fn bootstrap(&mut self, config: queuebench_system::cluster::command::ClusterConfig) {
        let first = self.add_node();
        self.commit(Entry::Voters([self.nodes[first].raft_id].into()));
        let at = timestamp(self.now).unwrap();
        self.commit(Entry::Command(Command::new(at, Operation::InitCluster(config))));
        self.nodes[first].received = self.log.len();
    }

    fn commit(&mut self, entry: Entry) -> Option<Applied> {
        let index = self.log.len() as u64 + 1;
        let applied = match &entry {
            Entry::Voters(voters) => {
                self.voters.clone_from(voters);
                None
            }
            Entry::Command(command) => {
                let applied = self.oracle.apply(index, command);
                self.note_removal(command, &applied);
                Some(applied)
            }
        };
        self.log.push(entry);
        let nothing = Applied {
            outcome: Ok(queuebench_system::cluster::Outcome::Done),
            events: Vec::new(),
            topology_changed: false,
        };
        self.outcomes.push(applied.clone().unwrap_or(nothing));
        applied
    }

    fn note_removal(&mut self, command: &Command, applied: &Applied) {
        let Operation::RemoveNode(remove) = &command.operation else { return };
        if applied.outcome.is_err() || remove.reason != LeaveReason::HealthCheckFailure {
            return;
        }
        if let Some(node) = self.index_of(&remove.id) {
            let troubled_at = self.troubled.get(&node).copied();
            self.removals.push(Removal { node, at: self.now, troubled_at });
        }
    }

    fn majority(&self, from: usize, voters: &BTreeSet<u64>) -> bool {
        let agree = |node: &usize| voters.contains(&self.nodes[*node].raft_id) && self.reach(from, *node);
        (0..self.nodes.len()).filter(agree).count() > voters.len() / 2
    }

    /// Keeps, loses or elects the leader, and lets it do its work.
    pub(crate) fn lead(&mut self) {
        if let Some(leader) = &self.leader {
            let node = leader.node;
            if self.majority(node, &self.voters) && self.voters.contains(&self.nodes[node].raft_id) {
                if let Some(leader) = &mut self.leader {
                    leader.quorum_at = self.now;
                }
                self.commit_pending();
                self.work();
            } else if !self.nodes[node].up || self.now - leader.quorum_at > LEASE_MS {
                self.depose();
            }
        } else if self.now >= self.election_at {
            self.elect();
        }
    }

    fn elect(&mut self) {
        let able = |node: &usize| {
            self.voters.contains(&self.nodes[*node].raft_id)
                && self.nodes[*node].received == self.log.len()
                && self.majority(*node, &self.voters)
        };
        let candidates: Vec<_> = (0..self.nodes.len()).filter(able).collect();
        self.election_at = self.now + self.rng.random_range(500..1_500);
        if candidates.is_empty() {
            return;
        }
        let node = candidates[self.rng.random_range(0..candidates.len())];
        self.term += 1;
        self.messages.votes += 2 * (self.voters.len() as u64 - 1);
        self.leader = Some(Leadership {
            node,
            term: self.term,
            judge: Judge::new(HEALTH, self.elapsed()),
            quorum_at: self.now,
            pending: VecDeque::new(),
            joins: Vec::new(),
            known: BTreeMap::new(),
        });
    }

    /// The leader is gone. What it had proposed reached a majority, or did not; nobody was told.
    fn depose(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        self.election_at = self.now + self.rng.random_range(500..1_500);
        let survive = self.rng.random_range(0..=leader.pending.len());
        for pending in leader.pending.into_iter().take(survive) {
            let voters = self.voters.clone();
            let holders: Vec<_> = (0..self.nodes.len())
                .filter(|node| {
                    voters.contains(&self.nodes[*node].raft_id)
                        && self.nodes[*node].received == self.log.len()
                })
                .collect();
            // Only a majority that had everything before can have got this one too.
            if holders.len() <= voters.len() / 2 {
                return;
            }
            self.commit(pending.entry);
            holders.into_iter().for_each(|node| self.nodes[node].received = self.log.len());
        }
    }

    fn commit_pending(&mut self) {
        let mut batch = 0;
        loop {
            let Some(leader) = &mut self.leader else { return };
            let node = leader.node;
            let Some(pending) = leader.pending.pop_front_if(|pending| pending.since < self.now) else {
                break;
            };
            if let Entry::Voters(voters) = &pending.entry
                && !self.majority(node, voters)
            {
                if let Some(leader) = &mut self.leader {
                    leader.pending.push_front(pending);
                }
                break;
            }
            let accepted = self.commit(pending.entry).is_none_or(|applied| applied.outcome.is_ok());
            if let Some(write) = pending.write {
                self.writes[write].acknowledged = accepted;
            }
            batch += 1;
        }
        if batch > 0 {
            let Some(leader) = self.leader.as_ref().map(|leader| leader.node) else { return };
            for node in 0..self.nodes.len() {
                // Whoever was up to date gets the batch at once: at least a majority has everything.
                let voter = self.voters.contains(&self.nodes[node].raft_id) || node == leader;
                if voter && self.reach(leader, node) {
                    self.catch_up(leader, node);
                }
            }
        }
    }

    /// The leader's regular word to everybody with a vote: whoever it reaches gets what it lacks.
    pub(crate) fn replicate(&mut self) {
        let Some(leader) = self.leader.as_ref().map(|leader| leader.node) else { return };
        if !self.now.is_multiple_of(100) {
            return;
        }
        for node in 0..self.nodes.len() {
            if node == leader {
                self.nodes[node].last_contact = self.now;
            } else if self.voters.contains(&self.nodes[node].raft_id) {
                self.messages.replication += 2;
                if self.reach(leader, node) && self.rng.random_bool(0.9) {
                    self.nodes[node].last_contact = self.now;
                    self.catch_up(leader, node);
                }
            }
        }
    }

    fn catch_up(&mut self, leader: usize, node: usize) {
        if node != leader
            && self.log.len() - self.nodes[node].received > SNAPSHOT_AFTER
            && self.nodes[leader].applied > self.nodes[node].received + SNAPSHOT_AFTER
        {
            self.install_snapshot(leader, node);
            self.messages.replication += 2;
        }
        self.nodes[node].received = self.log.len();
    }

    /// Proposes through the leader; a client's write is told of when it is committed.
    pub(crate) fn propose_for(&mut self, operation: Operation, write: Option<usize>) {
        let (now, at) = (self.now, timestamp(self.now).unwrap());
        if let Some(leader) = &mut self.leader {
            let entry = Entry::Command(Command::new(at, operation));
            leader.pending.push_back(Pending { entry, write, since: now });
        }
    }

    fn propose_voters(&mut self, voters: BTreeSet<u64>) {
        let since = self.now;
        if let Some(leader) = &mut self.leader {
            leader.pending.push_back(Pending { entry: Entry::Voters(voters), write: None, since });
        }
    }

    pub(crate) fn request_join(&mut self, leader_node: usize, node: usize) {
        let raft_id = self.nodes[node].raft_id;
        let until = self.now + JOIN_DEADLINE_MS;
        if let Some(leader) = self.leader.as_mut().filter(|leader| leader.node == leader_node)
            && leader.joins.iter().all(|join| join.raft_id != raft_id)
        {
            leader.joins.push(Join { node, raft_id, until, proposed: false });
        }
    }

    /// Takes what a member saw, and tells it whom to ask.
    pub(crate) fn hear(&mut self, report: Report) -> BTreeSet<NodeId> {
        let elapsed = self.elapsed();
        let Some(mut leader) = self.leader.take() else { return BTreeSet::new() };
        leader.judge.hear(report, elapsed);
        let state = &self.nodes[leader.node].state;
        let members = members(&mut leader, state, elapsed);
        let suspects = leader.judge.suspects(&self.scene(&leader, &members));
        self.leader = Some(leader);
        suspects
    }

    fn scene<'a>(&'a self, leader: &Leadership, members: &'a BTreeMap<NodeId, Duration>) -> Scene<'a> {
        let node = &self.nodes[leader.node];
        Scene {
            me: &node.id,
            members,
            observations: &node.observations,
            has_quorum: leader.quorum_at == self.now,
            now: self.elapsed(),
        }
    }

    /// One step of the leader's work, when everything it proposed so far has been applied by it.
    fn work(&mut self) {
        let Some(mut leader) = self.leader.take() else { return };
        if !leader.pending.is_empty() || self.nodes[leader.node].applied != self.log.len() {
            self.leader = Some(leader);
            return;
        }
        let state = &self.nodes[leader.node].state;
        let members = members(&mut leader, state, self.elapsed());
        let verdict = leader.judge.verdict(&self.scene(&leader, &members));
        let mut done_now = Vec::new();
        leader.joins.retain(|join| {
            let done = state.members().get(&self.nodes[join.node].id).is_some_and(|known| {
                known.member.raft_id == join.raft_id
                    && known.incarnation == Some(self.nodes[join.node].incarnation)
                    && join.proposed
            });
            if done {
                done_now.push(join.node);
            }
            !done && join.until > self.now && self.nodes[join.node].raft_id == join.raft_id
        });
        let joining: BTreeSet<_> = leader.joins.iter().map(|join| join.raft_id).collect();
        let answering = self.answering(leader.node);
        let node = &self.nodes[leader.node];
        let duty = next_duty(&LeaderView {
            me: &node.id,
            raft_id: node.raft_id,
            term: leader.term,
            state,
            voters: &self.voters,
            answering: &answering,
            joining: &joining,
            verdict: verdict.as_ref(),
            now: timestamp(self.now).unwrap(),
            rebalance_delay: REBALANCE_DELAY,
        });
        let next = leader.joins.iter_mut().find(|join| !join.proposed);
        let step = next.map(|join| {
            let has_vote = self.voters.contains(&join.raft_id);
            join.proposed = has_vote;
            (join.node, join.raft_id, has_vote)
        });
        let leads = leader.node;
        self.leader = Some(leader);
        for joined in done_now {
            // The answer may be lost; the node then asks again and is told the same.
            let told = self.reach(leads, joined);
            self.nodes[joined].joined = told;
            self.nodes[joined].last_contact = self.now;
        }
        match duty {
            Some(Duty::Propose(operation)) => self.propose_for(operation, None),
            Some(Duty::RemoveVoter(vote)) => {
                let voters = self.voters.iter().copied().filter(|voter| *voter != vote).collect();
                self.propose_voters(voters);
            }
            Some(Duty::AddVoter { raft_id, .. }) if self.caught_up(raft_id) => {
                let voters = self.voters.iter().copied().chain([raft_id]).collect();
                self.propose_voters(voters);
            }
            _ => {}
        }
        match step {
            Some((node, _, true)) => {
                let add =
                    self.nodes[node].describe(self.troubled.get(&node).map(|ms| Duration::from_millis(*ms)));
                self.propose_for(Operation::AddNode(add), None);
            }
            Some((_, raft_id, false)) if self.caught_up(raft_id) => {
                let voters = self.voters.iter().copied().chain([raft_id]).collect();
                self.propose_voters(voters);
            }
            _ => {}
        }
    }

    pub(crate) fn answering(&self, leader: usize) -> BTreeSet<u64> {
        let answers = |node: &usize| self.reach(leader, *node);
        (0..self.nodes.len()).filter(answers).map(|node| self.nodes[node].raft_id).collect()
    }

    /// A learner gets everything before it gets a vote; false if the leader does not reach it.
    fn caught_up(&mut self, raft_id: u64) -> bool {
        let Some(leader) = self.leader.as_ref().map(|leader| leader.node) else { return false };
        let node = self.nodes.iter().position(|node| node.raft_id == raft_id && node.intent != Intent::Out);
        let Some(node) = node.filter(|node| self.reach(leader, *node)) else { return false };
        self.catch_up(leader, node);
        self.messages.replication += 2;
        true
    }
}

fn members(leader: &mut Leadership, state: &State, now: Duration) -> BTreeMap<NodeId, Duration> {
    leader.known.retain(|id, _| state.members().contains_key(id));
    for (id, record) in state.members() {
        let known = leader.known.entry(id.clone()).or_insert((record.incarnation, now));
        if known.0 != record.incarnation {
            *known = (record.incarnation, now);
            leader.judge.forget(id);
        }
    }
    leader.known.iter().map(|(id, (_, since))| (id.clone(), *since)).collect()
}
