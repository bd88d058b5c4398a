//! Joining, and joining again: this node's side, and the leader's.
//!
//! A node asks for membership at every start, and again when it finds out that it was removed for its
//! silence; it goes on asking, with pauses that grow to [`LONGEST_PAUSE`], through any node it knows. One
//! that was removed on purpose stays out until it is started again.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::ClusterKit;
use crate::{
    cluster::{
        client::PeerClient,
        command::{AddNode, LeaveReason, Operation, Outcome},
        error::ChangeError,
        node::{Member, Node, check_address},
        options::Settings,
    },
    raft::node::MembershipError,
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_secs(2);

/// The body of `/join`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::cluster) struct JoinRequest {
    pub(in crate::cluster) node: Node,
    pub(in crate::cluster) raft_addr: String,
    /// Absent in requests of older nodes, which cannot be given a vote.
    #[serde(default)]
    pub(in crate::cluster) raft_id: u64,
    #[serde(default)]
    pub(in crate::cluster) incarnation: Option<u64>,
}

/// What the leader answers to a request it took.
#[derive(Debug)]
pub(in crate::cluster) enum JoinAnswer {
    Joined {
        cluster_id: String,
        node_count: usize,
    },
    /// Somebody else leads, or nobody.
    Elsewhere(Option<Node>),
    /// `failed to add to raft`.
    Raft(String),
    /// `failed to propose`.
    Proposal(ChangeError),
    /// The request itself is wrong.
    Invalid(String),
}

#[derive(Debug, Deserialize)]
struct Redirect {
    leader_ip: String,
}

impl ClusterKit {
    fn join_request(&self) -> JoinRequest {
        JoinRequest {
            node: self.node().clone(),
            raft_addr: self.0.settings.raft_addr.clone(),
            raft_id: self.0.raft.identity().node(),
            incarnation: Some(self.0.incarnation),
        }
    }

    /// Takes a request as the leader: a vote first, then the listing, which is what everybody sees.
    pub(in crate::cluster) async fn take_join(&self, request: JoinRequest) -> JoinAnswer {
        if let Err(error) = request.node.check() {
            return JoinAnswer::Invalid(error.to_string());
        }
        if let Err(error) = check_address("raft_addr", &request.raft_addr) {
            return JoinAnswer::Invalid(error.to_string());
        }
        if request.raft_id == 0 {
            return JoinAnswer::Invalid(
                "raft_id is missing: the joining node is of an older version".to_owned(),
            );
        }
        if !self.is_leader() {
            return JoinAnswer::Elsewhere(self.leader());
        }
        let raft_id = request.raft_id;
        let first = self.0.joining.lock().insert(raft_id);
        let answer = self.admit(request).await;
        if first {
            self.0.joining.lock().remove(&raft_id);
        }
        answer
    }

    async fn admit(&self, request: JoinRequest) -> JoinAnswer {
        let url = self.0.settings.raft_url(&request.raft_addr);
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let members = || self.0.raft.status().members;
        while !members()
            .iter()
            .any(|member| member.node == request.raft_id && member.voter && member.url == url)
        {
            match self.0.raft.add_member(request.raft_id, &url, true).await {
                Ok(()) => break,
                Err(MembershipError::NotLeader(_)) => return JoinAnswer::Elsewhere(self.leader()),
                // Memberships change one at a time: wait for one's turn.
                Err(MembershipError::InProgress) if Instant::now() < deadline => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                Err(error) => return JoinAnswer::Raft(error.to_string()),
            }
        }
        let last_seen = self.0.watch.lock().last_seen(&request.node.id);
        let ago = last_seen.and_then(|at| jiff::SignedDuration::try_from(self.0.started.elapsed() - at).ok());
        let last_seen = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
        let member = Member { node: request.node, raft_id: request.raft_id, raft_addr: request.raft_addr };
        let add = AddNode { member, incarnation: request.incarnation, last_seen };
        match self.change_here(Operation::AddNode(add)).await {
            Ok(Outcome::Joined { cluster_id, node_count }) => JoinAnswer::Joined { cluster_id, node_count },
            Ok(_) | Err(ChangeError::NoLeader) => JoinAnswer::Elsewhere(self.leader()),
            Err(error) => JoinAnswer::Proposal(error),
        }
    }

    /// Whom to ask, the likeliest first.
    fn contacts(&self) -> Vec<String> {
        let me = self.node_id();
        let mut contacts: Vec<_> = self
            .leader()
            .into_iter()
            .filter(|leader| leader.id != *me)
            .map(|leader| leader.http_addr())
            .collect();
        contacts.extend(self.0.settings.options.join_addrs.iter().cloned());
        let others = self.snapshot();
        contacts.extend(others.nodes().iter().filter(|node| node.id != *me).map(|node| node.http_addr()));
        let mut seen = std::collections::BTreeSet::new();
        contacts.retain(|contact| *contact != self.node().http_addr() && seen.insert(contact.clone()));
        contacts
    }

    async fn ask_to_join(&self) -> Result<(), String> {
        let request = self.join_request();
        if self.is_leader() {
            return match self.take_join(request).await {
                JoinAnswer::Joined { .. } => Ok(()),
                other => Err(format!("{other:?}")),
            };
        }
        let mut last = "nobody to ask is known".to_owned();
        for contact in self.contacts() {
            match self.ask_one(contact, &request).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_one(&self, mut contact: String, request: &JoinRequest) -> Result<(), String> {
        for _ in 0..=REDIRECTS_MAX {
            let asked = self.0.client.post(&contact, "/join", request, JOIN_TIMEOUT).await;
            let answer = asked.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&answer.body);
            match answer.status {
                StatusCode::OK => return Ok(()),
                StatusCode::TEMPORARY_REDIRECT => {
                    let redirect: Redirect =
                        serde_json::from_str(&text).map_err(|error| error.to_string())?;
                    let leader = redirect.leader_ip;
                    let leader = if leader.starts_with(':') { format!("127.0.0.1{leader}") } else { leader };
                    if leader == self.node().http_addr() || leader == contact {
                        return Err(format!("{contact} redirects in a circle"));
                    }
                    contact = leader;
                }
                status => return Err(format!("{contact} answered {status}: {text}")),
            }
        }
        Err(format!("more than {REDIRECTS_MAX} redirects"))
    }

    /// Whether the cluster still lists this node, as somebody else sees it.
    async fn still_listed(&self) -> Option<bool> {
        for contact in self.contacts() {
            let path = format!("/internal/listed?id={}", self.node_id());
            let Ok(answer) = self.0.client.get(&contact, &path, SILENCE).await else { continue };
            let Ok(listing) = serde_json::from_slice::<Listing>(&answer.body) else { continue };
            return Some(self.stays(&listing));
        }
        None
    }

    fn stays(&self, listing: &Listing) -> bool {
        let listed = listing.raft_id == Some(self.0.raft.identity().node());
        let on_purpose = listing.left.is_some_and(|reason| reason != LeaveReason::HealthCheckFailure);
        listed || on_purpose
    }

    pub(in crate::cluster) fn listing(&self, id: &str) -> Listing {
        let Ok(id) = id.parse() else { return Listing::default() };
        self.read(|state| Listing {
            raft_id: state.members().get(&id).map(|record| record.member.raft_id),
            left: state.departed().get(&id).map(|gone| gone.reason),
        })
    }
}

/// What a node knows of another's membership.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Listing {
    raft_id: Option<u64>,
    left: Option<LeaveReason>,
}

/// Whether this node is to begin a cluster: it knows nobody, or is to bootstrap and nobody it knows has one.
/// What is on its disk goes before either.
pub(super) async fn begins_a_cluster(settings: &Settings, client: &PeerClient) -> bool {
    let options = &settings.options;
    if options.join_addrs.is_empty() || !options.bootstrap {
        return options.join_addrs.is_empty();
    }
    if options.data_dir.join("raft/meta").exists() {
        return true;
    }
    for known in options.join_addrs.iter().filter(|known| **known != settings.node.http_addr()) {
        let answer = client.get(known, "/cluster", SILENCE).await;
        if answer.is_ok_and(|answer| answer.status.is_success()) {
            info!(known, "there is a cluster already, this node joins it");
            return false;
        }
    }
    true
}

pub(super) async fn run(kit: ClusterKit) {
    let mut pause = FIRST_PAUSE;
    let mut silent_since = None;
    while !kit.0.stopped() {
        if kit.0.joined.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_PAUSE).await;
            if kit.leader().is_some() {
                silent_since = None;
            }
            let mine = kit.listing(kit.node_id().as_str());
            let silence = *silent_since.get_or_insert_with(Instant::now);
            // Whoever is removed while it cannot hear goes on believing in the leader it knew.
            let doubted = kit.0.doubted.swap(false, Ordering::Relaxed);
            let alone = silence.elapsed() > SILENCE && kit.leader().is_none();
            let removed =
                !kit.stays(&mine) || ((doubted || alone) && kit.still_listed().await == Some(false));
            if removed {
                warn!("this node was removed, it joins again");
                kit.0.joined.store(false, Ordering::Relaxed);
            }
            continue;
        }
        match kit.ask_to_join().await {
            Ok(()) => {
                info!("this node is a member");
                kit.0.joined.store(true, Ordering::Relaxed);
                pause = FIRST_PAUSE;
                // What the leader has listed reaches this node a moment later.
                tokio::time::sleep(SILENCE).await;
            }
            Err(error) => {
                info!(%error, "not a member yet, will ask again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
