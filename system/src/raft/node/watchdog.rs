//! Watches for what Raft itself does not notice.
//!
//! A disk that hangs does not stop heartbeats, so nobody would elect another leader: when a flush takes
//! longer than four election timeouts, a leader hands leadership over; after twenty the node counts as failed.
//! A log or core that failed makes the node fail at once. Also publishes the node's gauges.

use std::{sync::Weak, time::Duration};

use openraft::rt::WatchReceiver;
use tokio::sync::watch;

use super::{Node, Role};
use crate::raft::machine::Machine;

const PERIOD: Duration = Duration::from_millis(100);
const STEP_DOWN_AFTER: u32 = 4;
const FAIL_AFTER: u32 = 20;

pub(super) async fn run<M: Machine>(node: Weak<Node<M>>, fatal: watch::Sender<Option<String>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut handed_over = false;
    let mut last_leader = None;
    loop {
        ticks.tick().await;
        let Some(node) = node.upgrade() else { return };
        if node.stop.is_cancelled() {
            return;
        }
        if let Some(reason) = failure(&node) {
            tracing::error!(%reason, "this node has failed");
            fatal.send_replace(Some(reason));
            return;
        }
        let age = node.log.lock().as_ref().and_then(|log| log.flush_age()).unwrap_or_default();
        if age < node.election_timeout * STEP_DOWN_AFTER {
            handed_over = false;
        } else if node.leads() && !handed_over {
            handed_over = true;
            hand_over(&node, age).await;
        }
        publish(&node, &mut last_leader);
    }
}

fn failure<M: Machine>(node: &Node<M>) -> Option<String> {
    if let Err(error) = &node.raft.metrics().borrow_watched().running_state {
        return Some(error.to_string());
    }
    let log = node.log.lock();
    let log = log.as_ref()?;
    if let Some(reason) = log.failure() {
        return Some(format!("log: {reason}"));
    }
    let age = log.flush_age()?;
    (age > node.election_timeout * FAIL_AFTER).then(|| format!("a flush of the log hangs since {age:?}"))
}

/// Gives leadership to the voter that has most of the log.
async fn hand_over<M: Machine>(node: &Node<M>, age: Duration) {
    let status = node.status();
    let others = status.members.iter().filter(|member| member.voter && member.node != status.node);
    let Some(best) = others.max_by_key(|member| member.matched_index) else { return };
    tracing::warn!(?age, to = best.name, "a flush of the log hangs, leadership is handed over");
    metrics::counter!("raft_disk_step_downs_total").increment(1);
    // Fails only when the core has stopped, which the next tick sees.
    let _ = node.raft.trigger().transfer_leader(best.node).await;
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point; the values stay below 2^52")]
fn publish<M: Machine>(node: &Node<M>, last_leader: &mut Option<String>) {
    let status = node.status();
    let gauge = |name: &'static str, value: Option<u64>| metrics::gauge!(name).set(value.unwrap_or(0) as f64);
    gauge("raft_term", Some(status.term));
    gauge("raft_is_leader", Some(u64::from(status.role == Role::Leader)));
    gauge("raft_commit_index", status.commit_index);
    gauge("raft_applied_index", status.last_applied);
    gauge("raft_last_log_index", status.last_log_index);
    gauge("raft_snapshot_index", status.snapshot_index);
    gauge("raft_proposals_pending", Some((super::WRITES_MAX - node.writes.available_permits()) as u64));
    if status.role == Role::Leader {
        for member in status.members.iter().filter(|member| member.node != status.node) {
            let lag = status.last_log_index.unwrap_or(0).saturating_sub(member.matched_index.unwrap_or(0));
            metrics::gauge!("raft_peer_lag_entries", "peer" => member.name.clone()).set(lag as f64);
        }
    }
    if status.leader.is_some() && status.leader != *last_leader {
        metrics::counter!("raft_leader_changes_total").increment(1);
        last_leader.clone_from(&status.leader);
    }
}
