//! The leader's work, and the exported file: asks what is to be done, and does it, one thing at a time.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use super::ClusterKit;
use crate::{
    cluster::{
        command::Operation,
        duties::{Duty, LeaderView, next_duty},
        export,
    },
    raft::node::{MembershipError, Role},
};

const STEP: Duration = Duration::from_millis(50);
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(kit: ClusterKit) {
    while !kit.0.stopped() {
        let pause = match next(&kit) {
            None => STEP,
            Some(duty) => match carry_out(&kit, duty.clone()).await {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    warn!(%error, ?duty, "not done, will be tried again");
                    FAILURE_PAUSE
                }
            },
        };
        tokio::time::sleep(pause).await;
    }
}

fn next(kit: &ClusterKit) -> Option<Duty> {
    let inner = &kit.0;
    let status = inner.raft.status();
    let verdict = inner.verdict(status.role == Role::Leader, status.term);
    if status.role != Role::Leader {
        return None;
    }
    let (voters, answering, joining) = (inner.voters(), inner.answering(), inner.joining.lock().clone());
    inner.machine.read(|state| {
        if state.cluster().is_none() {
            return Some(Duty::Propose(Operation::InitCluster(inner.settings.cluster.clone())));
        }
        next_duty(&LeaderView {
            me: kit.node_id(),
            raft_id: status.node,
            term: status.term,
            state,
            voters: &voters,
            answering: &answering,
            joining: &joining,
            verdict: verdict.as_ref(),
            now: Timestamp::now(),
            rebalance_delay: inner.settings.options.rebalance_delay,
        })
    })
}

async fn carry_out(kit: &ClusterKit, duty: Duty) -> Result<(), String> {
    let said = |error: MembershipError| error.to_string();
    match duty {
        Duty::Propose(operation) => {
            info!(?operation, "the leader proposes");
            kit.change_here(operation).await.map(drop).map_err(|error| error.to_string())
        }
        Duty::AddVoter { node, raft_id, raft_addr } => {
            info!(%node, raft_id, "a member gets its vote");
            kit.0.raft.add_member(raft_id, &kit.0.settings.raft_url(&raft_addr), true).await.map_err(said)
        }
        Duty::RemoveVoter(raft_id) => {
            info!(raft_id, "a vote that nobody is listed for is taken");
            match kit.0.raft.remove_member(raft_id).await {
                Ok(()) | Err(MembershipError::NotFound(_)) => Ok(()),
                Err(error) => Err(said(error)),
            }
        }
    }
}

/// Between two writes of the exported file, and at most so often as a tenth of the time it takes.
const EXPORT_PAUSE: Duration = Duration::from_millis(100);

/// Keeps the exported file up to date with everything that is applied, custom data included; changes that
/// come quickly become one file.
pub(super) async fn export(kit: ClusterKit) {
    let mut applied = kit.0.machine.applied();
    loop {
        applied.mark_unchanged();
        let began = Instant::now();
        write_export(&kit).await;
        tokio::time::sleep(EXPORT_PAUSE.max(began.elapsed() * 9)).await;
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Writes the exported file, unless the one that is there shows the same.
pub(super) async fn write_export(kit: &ClusterKit) {
    let (machine, one) = (kit.0.machine.clone(), kit.0.exported.clone());
    let directory = kit.0.settings.options.data_dir.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut exported = one.lock();
        let state = machine.read(Clone::clone);
        let shows = (state.topology_version(), state.custom_data_version());
        if *exported == Some(shows) {
            return Ok(());
        }
        export::write(&directory, &state)?;
        *exported = Some(shows);
        Ok::<_, export::ExportError>(())
    });
    if let Ok(Err(error)) = written.await {
        warn!(%error, "the exported file is out of date");
    }
}
