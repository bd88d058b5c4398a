//! One simulated node: what is on its disk, what its process knows, and what its hooks were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use queuebench_system::cluster::{
    Event, Member, Node, NodeId, State, command::AddNode, health::Observations,
};

/// What a node is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A member, whatever happens.
    Member,
    /// Leaving: it goes down once its vote is gone.
    Leaving,
    /// Removed by somebody, or gone for good.
    Out,
}

/// Events of one applied entry, as told to this process.
pub(crate) type Told = (u64, Arc<Vec<Event>>);

pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    /// Drawn for every empty disk.
    pub(crate) raft_id: u64,
    /// Drawn for every start.
    pub(crate) incarnation: u64,
    pub(crate) intent: Intent,
    pub(crate) up: bool,
    pub(crate) paused_until: u64,
    /// Disk: how many committed entries are on it.
    pub(crate) received: usize,
    /// Process: what it has applied, and up to where.
    pub(crate) state: State,
    pub(crate) applied: usize,
    /// Process: the events told since it started.
    pub(crate) told: Vec<Told>,
    pub(crate) observations: Observations,
    pub(crate) watched: (u64, BTreeSet<NodeId>),
    pub(crate) suspects: BTreeSet<NodeId>,
    pub(crate) last_contact: u64,
    pub(crate) join_at: u64,
    pub(crate) joined: bool,
}

impl SimNode {
    pub(crate) fn new(number: usize, raft_id: u64, incarnation: u64) -> Self {
        Self {
            id: format!("node-{number}").parse().unwrap(),
            raft_id,
            incarnation,
            intent: Intent::Member,
            up: true,
            paused_until: 0,
            received: 0,
            state: State::default(),
            applied: 0,
            told: Vec::new(),
            observations: Observations::default(),
            watched: (u64::MAX, BTreeSet::new()),
            suspects: BTreeSet::new(),
            last_contact: 0,
            join_at: 0,
            joined: false,
        }
    }

    pub(crate) fn awake(&self, now: u64) -> bool {
        self.up && self.paused_until <= now
    }

    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.paused_until = 0;
    }

    /// A new process on the same disk: its state is read back, hooks are not told again.
    pub(crate) fn start(&mut self, incarnation: u64, now: u64) {
        if self.state.cluster().is_some() {
            self.state = State::from_snapshot(&self.state.to_snapshot().unwrap()).unwrap();
        }
        self.up = true;
        self.incarnation = incarnation;
        self.told.clear();
        self.observations = Observations::default();
        self.watched = (u64::MAX, BTreeSet::new());
        self.suspects.clear();
        self.last_contact = now;
        self.join_at = now;
        self.joined = false;
    }

    /// An empty disk in place of the old one, and so another Raft id.
    pub(crate) fn wipe(&mut self, raft_id: u64) {
        self.raft_id = raft_id;
        self.received = 0;
        self.applied = 0;
        self.state = State::default();
    }

    pub(crate) fn describe(&self, last_seen: Option<Duration>) -> AddNode {
        let node = Node {
            id: self.id.clone(),
            ip: format!("{}:8080", self.id),
            port: 0,
            name: String::new(),
            status: "active".to_owned(),
            services: BTreeMap::new(),
            advertise_addr: None,
        };
        let member = Member { node, raft_id: self.raft_id, raft_addr: format!("{}:9001", self.id) };
        let last_seen =
            last_seen.and_then(|ago| super::world::timestamp(u64::try_from(ago.as_millis()).unwrap()));
        AddNode { member, incarnation: Some(self.incarnation), last_seen }
    }
}
