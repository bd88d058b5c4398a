//! The servers of a run: each started once, for all subjects that need it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use queuebench_reports::record::Provisioner;
use queuebench_system::queue::Durability;
use queuebench_testcontainers as containers;
use tokio_util::sync::CancellationToken;

use crate::subject::{Addresses, SubjectRequest};
use crate::ui::Ui;

/// All servers of a run.
pub(super) struct Servers {
    via: containers::Via,
    run_label: String,
    logs: PathBuf,
    running: Vec<Entry>,
}

/// One server, or why it is not there. A power-loss subject and a process-crash subject do not share one.
struct Entry {
    backend: containers::Backend,
    flushed: bool,
    server: Result<containers::Running, String>,
}

/// How long a server at a given address may take to answer.
const EXTERNAL_LIMIT: Duration = Duration::from_secs(10);

impl Servers {
    pub(super) fn new(via: containers::Via, run_label: &str, folder: &Path) -> Self {
        Self { via, run_label: run_label.to_owned(), logs: folder.join("logs"), running: Vec::new() }
    }

    /// Starts what `request` needs and what is not yet running.
    ///
    /// # Errors
    /// In a sentence, why a server cannot be had.
    pub(super) async fn start_for(
        &mut self,
        request: &SubjectRequest,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        for &backend in request.backend.servers() {
            let flushed = is_flushed(request);
            if self.find(backend, flushed).is_none() {
                let server = self.start(backend, flushed, ui, stop).await;
                self.running.push(Entry { backend, flushed, server });
            }
            if let Some(Entry { server: Err(reason), .. }) = self.find(backend, flushed) {
                return Err(reason.clone());
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        backend: containers::Backend,
        flushed: bool,
        ui: &Ui,
        stop: &CancellationToken,
    ) -> Result<containers::Running, String> {
        let step = ui.step(&format!("starting {}", backend.name()));
        let given = containers::StartOptions::from_env(backend);
        let options = containers::StartOptions {
            // A server that somebody else runs is there or is not; ours has to start first.
            time_limit: if given.external.is_some() { EXTERNAL_LIMIT } else { given.time_limit },
            via: self.via,
            durability: if flushed { Durability::PowerLoss } else { Durability::ProcessCrash },
            run_label: self.run_label.clone(),
            log_dir: Some(self.logs.clone()),
            name: Some(if flushed {
                format!("{}-flushed", backend.name())
            } else {
                backend.name().to_owned()
            }),
            progress: step.progress(),
            ..given
        };
        let started = tokio::select! {
            started = containers::start(backend, options) => started.map_err(|e| e.to_string()),
            () = stop.cancelled() => Err("interrupted".to_owned()),
        };
        match &started {
            Ok(server) => {
                step.done(&format!(
                    "{} {} ({})",
                    backend.name(),
                    server.version(),
                    server.provisioner().name()
                ));
            }
            Err(reason) => step.fail(reason),
        }
        started
    }

    fn find(&self, backend: containers::Backend, flushed: bool) -> Option<&Entry> {
        self.running.iter().find(|e| e.backend == backend && e.flushed == flushed)
    }

    fn of<'a>(&'a self, request: &SubjectRequest) -> impl Iterator<Item = &'a containers::Running> {
        let flushed = is_flushed(request);
        let backends = request.backend.servers();
        backends.iter().filter_map(move |&b| self.find(b, flushed)?.server.as_ref().ok())
    }

    pub(super) fn addresses(&self, request: &SubjectRequest) -> Addresses<'_> {
        let mut addresses = Addresses::default();
        for server in self.of(request) {
            match server.backend() {
                containers::Backend::Nats => addresses.nats = Some(server),
                containers::Backend::Kafka => addresses.kafka = Some(server),
                // A server that no queue of ours speaks to has no address here.
                _ => {}
            }
        }
        addresses
    }

    pub(super) fn pids(&self, request: &SubjectRequest) -> Vec<i32> {
        self.of(request).flat_map(containers::Running::pids).collect()
    }

    /// Those that we started, and so may break.
    pub(super) fn breakable(&self, request: &SubjectRequest) -> Vec<&containers::Running> {
        self.of(request).filter(|s| s.provisioner() != containers::Provisioner::External).collect()
    }

    /// As the servers state it; our own for an embedded subject.
    pub(super) fn version(&self, request: &SubjectRequest) -> String {
        let versions: Vec<_> = self.of(request).map(|s| s.version().to_owned()).collect();
        if versions.is_empty() { env!("CARGO_PKG_VERSION").to_owned() } else { versions.join(" + ") }
    }

    pub(super) fn provisioner(&self, request: &SubjectRequest) -> Provisioner {
        // A composite's servers are all started the same way unless one is external, which then counts.
        let mut found = Provisioner::Embedded;
        for server in self.of(request) {
            let one = match server.provisioner() {
                containers::Provisioner::Docker => Provisioner::Docker,
                containers::Provisioner::Native => Provisioner::Native,
                containers::Provisioner::External => Provisioner::External,
            };
            if found == Provisioner::Embedded || one == Provisioner::External {
                found = one;
            }
        }
        found
    }

    /// Stops all of them.
    pub(super) async fn stop(self, deadline: Duration, ui: &Ui) {
        for entry in self.running {
            if let Ok(server) = entry.server
                && server.provisioner() != containers::Provisioner::External
                && let Err(error) = server.stop(deadline).await
            {
                ui.say(&format!("stopping {}: {error}", entry.backend.name()));
            }
        }
    }
}

fn is_flushed(request: &SubjectRequest) -> bool {
    request.durability == Some(Durability::PowerLoss)
}
