//! What is broken during a trial, and when: the profile's faults on the servers of the subject.
//!
//! The load goes on meanwhile. Every fault is undone, also when the trial ends early, so that the next trial
//! meets a server that answers; a server that does not come back fails the trial.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use queuebench_reports::record;
use queuebench_testcontainers::{FaultError, Running};

use crate::clock::{self, Nanos};
use crate::profile::{Fault, FaultKind};
use crate::ui::TrialBar;

/// The faults of one trial.
pub(super) struct Timeline<'a> {
    acts: Vec<(Fault, &'a Running)>,
    done: Mutex<Vec<record::Fault>>,
}

/// A fault that could not be done or undone.
#[derive(Debug, thiserror::Error)]
#[error("fault at {at_s} s: {source}")]
pub struct TimelineError {
    at_s: f64,
    source: FaultError,
}

impl<'a> Timeline<'a> {
    /// Those of `faults` that hit one of `servers`.
    pub(super) fn new(faults: &[Fault], servers: &[&'a Running]) -> Self {
        let hits = |fault: &Fault| {
            let fault = *fault;
            servers.iter().filter(move |s| fault.hits(s.backend())).map(move |server| (fault, *server))
        };
        Self { acts: faults.iter().flat_map(hits).collect(), done: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.acts.is_empty()
    }

    /// Does everything at its time, counted from `origin`.
    pub(super) async fn play(&self, origin: Nanos, bar: &TrialBar) -> Result<(), TimelineError> {
        let all = join_all(self.acts.iter().map(|(fault, server)| self.act(*fault, server, origin, bar)));
        // All have ended before the first failure is told, so none is left half done.
        all.await.into_iter().collect()
    }

    /// What was done so far, in order of time.
    pub(super) fn take(&self) -> Vec<record::Fault> {
        let mut done = std::mem::take(&mut *self.done.lock());
        done.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        done
    }

    async fn act(
        &self,
        fault: Fault,
        server: &Running,
        origin: Nanos,
        bar: &TrialBar,
    ) -> Result<(), TimelineError> {
        let failed = |source| TimelineError { at_s: fault.at.0.as_secs_f64(), source };
        let since = || Duration::from_nanos(clock::now().saturating_sub(origin)).as_secs_f64();
        let due = origin + u64::try_from(fault.at.0.as_nanos()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_nanos(due.saturating_sub(clock::now()))).await;
        let name = server.backend().name();
        bar.remark(&format!("{} {name} at {:.1} s", fault.kind.name(), since()));
        let start_s = since();
        let place = {
            let mut done = self.done.lock();
            done.push(record::Fault {
                kind: fault.kind.name().to_owned(),
                target: name.to_owned(),
                start_s,
                end_s: None,
            });
            done.len() - 1
        };
        let wait = fault.duration.map(|span| span.0).unwrap_or_default();
        match fault.kind {
            FaultKind::Kill => {
                server.kill().await.map_err(failed)?;
                tokio::time::sleep(wait).await;
                server.restart().await.map_err(failed)?;
            }
            FaultKind::Pause => {
                server.pause().await.map_err(failed)?;
                tokio::time::sleep(wait).await;
                server.resume().await.map_err(failed)?;
            }
            FaultKind::Restart => server.restart().await.map_err(failed)?,
        }
        let end_s = since();
        self.done.lock()[place].end_s = Some(end_s);
        bar.remark(&format!("{name} answers again at {end_s:.1} s"));
        Ok(())
    }
}
