//! Asking other members whether they live, telling the leader, and telling hooks how well the cluster is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::ClusterKit;
use crate::cluster::{
    client::ClientError,
    event::{ClusterStatus, Event, HealthChange},
    health::{Judge, Observations, Report, Scene, Seen, status, targets},
    name::NodeId,
};

/// What a node has seen of others and, if it leads, heard.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Watch {
    observations: Observations,
    suspects: BTreeSet<NodeId>,
    judge: Option<(u64, Judge)>,
    /// When this node first knew of each member's present start.
    known: BTreeMap<NodeId, (Option<u64>, Duration)>,
    status: ClusterStatus,
}

impl Watch {
    pub(super) fn answers(&self, node: &NodeId) -> bool {
        let seen = self.observations.get(node);
        seen.failures == 0 && seen.answered_at.is_some()
    }

    pub(super) fn last_seen(&self, node: &NodeId) -> Option<Duration> {
        self.observations.get(node).answered_at
    }

    pub(in crate::cluster) fn seen(&self) -> impl Iterator<Item = (&NodeId, Seen)> {
        self.observations.iter()
    }
}

impl super::Inner {
    fn members_known(&self, watch: &mut Watch) -> BTreeMap<NodeId, Duration> {
        let now = self.started.elapsed();
        self.machine.read(|state| {
            watch.known.retain(|id, _| state.members().contains_key(id));
            for (id, record) in state.members() {
                let known = watch.known.entry(id.clone()).or_insert((record.incarnation, now));
                if known.0 != record.incarnation {
                    *known = (record.incarnation, now);
                    watch.observations.forget(id);
                    watch.judge.iter_mut().for_each(|(_, judge)| judge.forget(id));
                }
            }
        });
        watch.known.iter().map(|(id, (_, since))| (id.clone(), *since)).collect()
    }

    /// Whom several members found silent, if this node leads and is to remove them.
    pub(super) fn verdict(&self, leads: bool, term: u64) -> Option<NodeId> {
        let now = self.started.elapsed();
        let mut watch = self.watch.lock();
        if !leads {
            watch.judge = None;
            return None;
        }
        if watch.judge.as_ref().is_none_or(|(of, _)| *of != term) {
            watch.judge = Some((term, Judge::new(self.settings.options.health, now)));
        }
        let members = self.members_known(&mut watch);
        let (_, judge) = watch.judge.as_ref()?;
        // Whether a majority still follows shows when the removal is proposed: it is not committed otherwise.
        let me = &self.settings.node.id;
        let scene = Scene { me, members: &members, observations: &watch.observations, has_quorum: true, now };
        if self.settings.options.remove_silent { judge.verdict(&scene) } else { None }
    }

    /// Takes what another member saw, and answers whom it should ask too; none if this node does not lead.
    pub(in crate::cluster) fn hear(&self, report: Report) -> Option<BTreeSet<NodeId>> {
        let now = self.started.elapsed();
        let mut watch = self.watch.lock();
        let members = self.members_known(&mut watch);
        if !members.contains_key(&report.observer) {
            return None;
        }
        watch.judge.as_mut()?.1.hear(report, now);
        let (_, judge) = watch.judge.as_ref()?;
        let me = &self.settings.node.id;
        let scene = Scene { me, members: &members, observations: &watch.observations, has_quorum: true, now };
        Some(judge.suspects(&scene))
    }
}

pub(super) async fn run(kit: ClusterKit) {
    let health = kit.0.settings.options.health;
    let mut ticks = tokio::time::interval(health.interval.min(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_round = None;
    while !kit.0.stopped() {
        ticks.tick().await;
        // New members are asked at once: until they have answered they count for no majority.
        let new = { kit.read(|state| state.members().len()) } > kit.0.watch.lock().known.len();
        let due = last_round.is_none_or(|at: std::time::Instant| at.elapsed() >= health.interval);
        if due || new {
            last_round = Some(std::time::Instant::now());
            round(&kit, health.timeout).await;
        }
    }
}

pub(super) async fn round(kit: &ClusterKit, timeout: Duration) {
    let me = kit.node_id();
    let leads = kit.is_leader();
    let members: BTreeMap<NodeId, (String, u64)> = kit.read(|state| {
        let members = state.members().iter();
        members
            .map(|(id, record)| (id.clone(), (record.member.node.http_addr(), record.member.raft_id)))
            .collect()
    });
    let mut asked = if leads { members.keys().cloned().collect() } else { targets(me, members.keys()) };
    asked.extend(kit.0.watch.lock().suspects.iter().filter(|id| members.contains_key(*id)).cloned());
    asked.remove(me);
    let probes =
        asked.iter().filter_map(|id| members.get(id).map(|(address, raft_id)| (id, address, *raft_id)));
    let answers = join_all(probes.map(|(id, address, raft_id)| async move {
        let answer = kit.0.client.get(address, "/health", timeout).await;
        // Whoever plays a member's part on another disk is not the member.
        let alive = answer.is_ok_and(|answer| {
            answer.status.is_success() && answer.raft_id.is_none_or(|told| told == raft_id)
        });
        (id, alive)
    }))
    .await;
    let report = {
        let now = kit.0.started.elapsed();
        let mut watch = kit.0.watch.lock();
        kit.0.members_known(&mut watch);
        watch.observations.retain(&asked);
        for (id, alive) in answers {
            watch.observations.record(id, alive, now);
        }
        watch.observations.report(me)
    };
    let silent = |report: &Report| -> BTreeSet<NodeId> {
        report.failures.iter().filter(|(_, failures)| **failures > 0).map(|(id, _)| id.clone()).collect()
    };
    let mut unhealthy = silent(&report);
    match kit.leader() {
        Some(leader) if leader.id != *me => {
            let path = "/internal/report";
            let told =
                kit.0.client.ask::<BTreeSet<NodeId>>(&leader.http_addr(), path, &report, timeout).await;
            match told {
                Ok(suspects) => {
                    unhealthy.extend(suspects.iter().cloned());
                    kit.0.watch.lock().suspects = suspects;
                }
                Err(ClientError::Status { .. }) => kit.0.doubted.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
        }
        _ => {}
    }
    tell_status(kit, members.len(), unhealthy.into_iter().collect());
}

fn tell_status(kit: &ClusterKit, total: usize, unhealthy: Vec<NodeId>) {
    let now = status(total, unhealthy.len(), kit.leader().is_some());
    let before = std::mem::replace(&mut kit.0.watch.lock().status, now);
    if before == now || total == 0 {
        return;
    }
    let change = HealthChange {
        healthy_nodes: total - unhealthy.len(),
        unhealthy_nodes: unhealthy.len(),
        total_nodes: total,
        status: now,
        unhealthy_node_ids: unhealthy,
        timestamp: Timestamp::now(),
    };
    let index = *kit.0.machine.applied().borrow();
    kit.0.machine.bus().publish(index, vec![Event::HealthChange(change)]);
}
