//! What a leader has to do next, decided from the applied state and the Raft membership alone.
//!
//! The member list in the state is the truth; the Raft membership follows it. So a step that a leader did
//! not live to finish (a vote without a member, a member without a vote, a leave without its rebalance) is
//! seen and finished by whoever leads next. Duties are carried out one at a time and asked for again after
//! each, since each changes what they are decided from.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    command::{LeaveReason, Operation, RemoveNode, SetPartitions},
    name::NodeId,
    state::State,
};

/// A rebalance is put off for at most so many delays.
pub const MOST_DELAYS: u32 = 8;

/// What a leader looks at.
#[derive(Clone, Debug)]
pub struct LeaderView<'a> {
    /// The leader.
    pub me: &'a NodeId,
    /// Its Raft id.
    pub raft_id: u64,
    /// Its term.
    pub term: u64,
    /// What it has applied.
    pub state: &'a State,
    /// Who has a vote, by Raft id.
    pub voters: &'a BTreeSet<u64>,
    /// Raft ids of those that have confirmed this leader lately, itself included.
    pub answering: &'a BTreeSet<u64>,
    /// Raft ids of nodes whose join this leader is just carrying out: a vote before the listing is no error.
    pub joining: &'a BTreeSet<u64>,
    /// Who is to go, by the word of several.
    pub verdict: Option<&'a NodeId>,
    /// Now, by the leader's clock.
    pub now: Timestamp,
    /// How long it must have been quiet for one rebalance to follow all joins and leaves; after
    /// [`MOST_DELAYS`] times as long it follows anyway.
    pub rebalance_delay: Duration,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Propose this.
    Propose(Operation),
    /// Give a listed member its vote: as a learner first, then promoted.
    AddVoter {
        /// Who.
        node: NodeId,
        /// Its Raft id.
        raft_id: u64,
        /// Where Raft reaches it.
        raft_addr: String,
    },
    /// Take the vote of a node that is not listed.
    RemoveVoter(u64),
}

/// The first thing to do, if there is any.
#[must_use]
pub fn next_duty(view: &LeaderView<'_>) -> Option<Duty> {
    let state = view.state;
    let announced =
        state.leader().is_some_and(|leader| leader.term == view.term && leader.leader == *view.me);
    if !announced {
        let (leader, term) = (view.me.clone(), view.term);
        return Some(Duty::Propose(Operation::LeaderStarted { leader, term }));
    }
    if let Some(duty) = reconcile(view) {
        return Some(duty);
    }
    if let Some(known) = view.verdict.and_then(|node| state.members().get(node)) {
        return Some(Duty::Propose(Operation::RemoveNode(RemoveNode {
            id: known.member.node.id.clone(),
            reason: LeaveReason::HealthCheckFailure,
            incarnation: known.incarnation,
        })));
    }
    let factor = state.cluster()?.replication_factor;
    if state.assignment().is_none() && state.members().len() >= factor {
        return Some(Duty::Propose(Operation::CreatePartitions(SetPartitions::default())));
    }
    let waited = |since| Duration::try_from(view.now.duration_since(since)).unwrap_or_default();
    let delay = view.rebalance_delay;
    let due = state
        .rebalance_due()
        .is_some_and(|due| waited(due.latest) >= delay || waited(due.since) >= delay * MOST_DELAYS);
    if due && !state.members().is_empty() {
        return Some(Duty::Propose(Operation::RebalancePartitions(SetPartitions::default())));
    }
    let lease_due = state.leases().earliest_expiry().is_some_and(|earliest| earliest <= view.now);
    lease_due.then_some(Duty::Propose(Operation::ExpireLeases {}))
}

/// Whether a majority of the votes that are left without this one answers. A removal, asked for by whomever,
/// is refused otherwise: it would leave a cluster that can decide nothing, not even to take it back.
#[must_use]
pub fn can_spare(vote: u64, voters: &BTreeSet<u64>, answering: &BTreeSet<u64>) -> bool {
    let left = voters.iter().filter(|voter| **voter != vote);
    let answer = left.clone().filter(|voter| answering.contains(voter)).count();
    answer > left.count() / 2
}

/// Makes the Raft membership follow the member list, one change at a time: votes that nobody is listed for
/// go first, since each of them counts against the majority. A change is not begun that its own majority
/// would not answer: it would stay half done and block every other.
fn reconcile(view: &LeaderView<'_>) -> Option<Duty> {
    let members = view.state.members();
    if members.is_empty() {
        return None;
    }
    let listed: BTreeMap<u64, &NodeId> =
        members.iter().filter(|(_, m)| m.member.raft_id != 0).map(|(id, m)| (m.member.raft_id, id)).collect();
    let gone = |vote: &&u64| !listed.contains_key(vote) && !view.joining.contains(vote);
    // A leader that is not listed itself (removed while it leads) goes last, when the others are settled.
    let order = |vote: &&u64| (**vote == view.raft_id, **vote);
    let spare = |vote: &&u64| can_spare(**vote, view.voters, view.answering);
    if let Some(vote) = view.voters.iter().filter(gone).filter(spare).min_by_key(order) {
        return Some(Duty::RemoveVoter(*vote));
    }
    let (raft_id, node) = listed.into_iter().find(|(raft_id, _)| !view.voters.contains(raft_id))?;
    let raft_addr = members.get(node)?.member.raft_addr.clone();
    Some(Duty::AddVoter { node: node.clone(), raft_id, raft_addr })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use jiff::Timestamp;

    use super::{Duty, LeaderView, can_spare, next_duty};
    use crate::cluster::{
        command::{AddNode, ClusterConfig, Command, LeaveReason, Operation, RemoveNode, SetPartitions},
        name::NodeId,
        node::{Member, Node, STATUS_ACTIVE},
        state::State,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn id(number: u64) -> NodeId {
        format!("node-{number}").parse().unwrap()
    }

    struct Leader {
        state: State,
        voters: BTreeSet<u64>,
        answering: BTreeSet<u64>,
        joining: BTreeSet<u64>,
        verdict: Option<NodeId>,
        second: i64,
    }

    impl Leader {
        fn of(members: u64) -> Self {
            let (state, voters) = (State::default(), (1..=members).collect());
            let (answering, joining) = ((1..=20).collect(), BTreeSet::new());
            let mut leader = Self { state, voters, answering, joining, verdict: None, second: 0 };
            leader.apply(Operation::InitCluster(ClusterConfig {
                cluster_name: "c".to_owned(),
                partition_count: 16,
                replication_factor: 3,
            }));
            leader.apply(Operation::LeaderStarted { leader: id(1), term: 1 });
            (1..=members).for_each(|number| leader.add(number));
            leader
        }

        fn add(&mut self, number: u64) {
            let node = Node {
                id: id(number),
                ip: ":1".to_owned(),
                port: 0,
                name: String::new(),
                status: STATUS_ACTIVE.to_owned(),
                services: BTreeMap::new(),
                advertise_addr: None,
            };
            let member = Member { node, raft_id: number, raft_addr: ":2".to_owned() };
            self.apply(Operation::AddNode(AddNode { member, incarnation: Some(1), last_seen: None }));
        }

        fn apply(&mut self, operation: Operation) {
            self.second += 1;
            let index = u64::try_from(self.second).unwrap();
            self.state.apply(index, &Command::new(at(self.second), operation)).outcome.unwrap();
        }

        fn next(&self, term: u64, seconds_later: i64) -> Option<Duty> {
            next_duty(&LeaderView {
                me: &id(1),
                raft_id: 1,
                term,
                state: &self.state,
                voters: &self.voters,
                answering: &self.answering,
                joining: &self.joining,
                verdict: self.verdict.as_ref(),
                now: at(self.second + seconds_later),
                rebalance_delay: Duration::from_secs(1),
            })
        }
    }

    fn create() -> Operation {
        Operation::CreatePartitions(SetPartitions::default())
    }

    #[test]
    fn a_new_leader_says_so_first() {
        let announce = Operation::LeaderStarted { leader: id(1), term: 2 };
        assert_eq!(Leader::of(3).next(2, 0), Some(Duty::Propose(announce)));
    }

    #[test]
    fn partitions_are_created_as_soon_as_there_are_enough() {
        assert_eq!(Leader::of(2).next(1, 0), None);
        let mut leader = Leader::of(3);
        assert_eq!(leader.next(1, 0), Some(Duty::Propose(create())));
        leader.apply(create());
        assert_eq!(leader.next(1, 999), None);
    }

    #[test]
    fn a_vote_without_a_member_and_a_member_without_a_vote_are_mended() {
        let mut leader = Leader::of(3);
        leader.voters.insert(9);
        assert_eq!(leader.next(1, 0), Some(Duty::RemoveVoter(9)));
        leader.joining.insert(9);
        assert_eq!(leader.next(1, 0), Some(Duty::Propose(create())), "its join is being carried out");
        leader.voters.remove(&2);
        let mended = Duty::AddVoter { node: id(2), raft_id: 2, raft_addr: ":2".to_owned() };
        assert_eq!(leader.next(1, 0), Some(mended));
    }

    #[test]
    fn a_change_that_its_own_majority_would_not_answer_is_not_begun() {
        let mut leader = Leader::of(3);
        leader.voters.insert(9);
        leader.answering = [1, 9].into();
        assert_eq!(leader.next(1, 0), Some(Duty::Propose(create())), "one of three would be left");
        assert!(!can_spare(9, &leader.voters, &leader.answering));
        assert!(can_spare(2, &[1, 2, 3].into(), &[1, 3].into()));
        assert!(!can_spare(2, &[1, 2, 3].into(), &[1, 2].into()));
        assert!(!can_spare(1, &[1].into(), &[1].into()), "the last vote");
    }

    #[test]
    fn a_removal_is_finished_by_whoever_leads_next() {
        let mut leader = Leader::of(4);
        leader.apply(create());
        leader.verdict = Some(id(4));
        let remove = RemoveNode { id: id(4), reason: LeaveReason::HealthCheckFailure, incarnation: Some(1) };
        assert_eq!(leader.next(1, 0), Some(Duty::Propose(Operation::RemoveNode(remove.clone()))));
        leader.apply(Operation::RemoveNode(remove));
        leader.apply(Operation::LeaderStarted { leader: id(1), term: 2 });
        assert_eq!(leader.next(2, 0), Some(Duty::RemoveVoter(4)));
        leader.voters.remove(&4);
        let rebalance = Operation::RebalancePartitions(SetPartitions::default());
        assert_eq!(leader.next(2, 0), Some(Duty::Propose(rebalance.clone())));
        leader.apply(rebalance);
        assert_eq!(leader.next(2, 999), None);
    }

    #[test]
    fn joins_are_gathered_before_one_rebalance() {
        let mut leader = Leader::of(3);
        leader.apply(create());
        leader.voters.insert(4);
        leader.add(4);
        assert_eq!(leader.next(1, 0), None);
        let rebalance = Operation::RebalancePartitions(SetPartitions::default());
        assert_eq!(leader.next(1, 1), Some(Duty::Propose(rebalance.clone())));
        // Each command takes a second here, as long as the delay: the eighth join is not waited for.
        for number in 5..=12 {
            assert_eq!(leader.next(1, 0), None);
            leader.voters.insert(number);
            leader.add(number);
        }
        assert_eq!(leader.next(1, 0), Some(Duty::Propose(rebalance)));
    }

    #[test]
    fn leases_that_are_due_are_ended() {
        let mut leader = Leader::of(2);
        let (lease, owner) = ("l".to_owned(), "o".to_owned());
        leader.apply(Operation::GrantLease { lease, owner, ttl_ms: 2_000 });
        assert_eq!(leader.next(1, 1), None);
        assert_eq!(leader.next(1, 2), Some(Duty::Propose(Operation::ExpireLeases {})));
    }
}
