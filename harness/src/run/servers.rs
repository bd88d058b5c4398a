//! The servers of a run: each started once, for all subjects that need it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use queuebench_reports::record::Provisioner;
use queuebench_system::queue::Durability;
use queuebench_testcontainers as containers;
use tokio_util::sync::CancellationToken;

use crate::subject::{Addresses, Backend, SubjectRequest};
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
    server: Result<Started, String>,
}

/// What was started for a subject.
enum Started {
    One(Box<containers::Running>),
    Cluster(containers::Cluster),
}

impl Started {
    fn members(&self) -> &[containers::Running] {
        match self {
            Self::One(server) => std::slice::from_ref(&**server),
            Self::Cluster(cluster) => cluster.members(),
        }
    }
}

/// Members of a store's cluster.
const STORE_NODES: usize = 3;

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
        if request.backend == Backend::Cluster && self.via == containers::Via::Docker {
            return Err("clusters are started natively only".to_owned());
        }
        for &backend in request.backend.servers() {
            let flushed = is_flushed(request);
            if self.find(backend, flushed).is_none() {
                let server = Box::pin(self.start(backend, flushed, ui, stop)).await;
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
    ) -> Result<Started, String> {
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
        let starting = async {
            if matches!(backend, containers::Backend::Kv | containers::Backend::Etcd) {
                Ok(Started::Cluster(start_store(backend, options).await?))
            } else {
                let started = containers::start(backend, options).await;
                Ok(Started::One(Box::new(started.map_err(|e| e.to_string())?)))
            }
        };
        let started = tokio::select! {
            started = starting => started,
            () = stop.cancelled() => Err("interrupted".to_owned()),
        };
        match &started {
            Ok(started) => {
                let members = started.members();
                let text = members.first().map_or_else(String::new, |server| {
                    format!("{} {} ({})", backend.name(), server.version(), server.provisioner().name())
                });
                let of = if members.len() > 1 { format!(", {} nodes", members.len()) } else { String::new() };
                step.done(&format!("{text}{of}"));
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
        let started = backends.iter().filter_map(move |&b| self.find(b, flushed)?.server.as_ref().ok());
        started.flat_map(Started::members)
    }

    pub(super) fn addresses(&self, request: &SubjectRequest) -> Addresses<'_> {
        let mut addresses = Addresses::default();
        if let [backend] = request.backend.servers()
            && request.backend.is_store()
            && let Some(Entry { server: Ok(started), .. }) = self.find(*backend, is_flushed(request))
        {
            addresses.members = started.members();
            return addresses;
        }
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
        let mut versions: Vec<_> = self.of(request).map(|s| s.version().to_owned()).collect();
        // Members of a cluster are of one version.
        versions.dedup();
        if versions.is_empty() { env!("CARGO_PKG_VERSION").to_owned() } else { versions.join(" + ") }
    }

    pub(super) fn provisioner(&self, request: &SubjectRequest) -> Provisioner {
        // A composite's servers are all started the same way unless one is external, which then counts.
        let own = request.backend.has_own_processes();
        // Processes of our own are children, whatever they run over.
        let mut found = if own { Provisioner::Native } else { Provisioner::Embedded };
        for server in self.of(request) {
            let one = match server.provisioner() {
                containers::Provisioner::Docker => Provisioner::Docker,
                containers::Provisioner::Native => Provisioner::Native,
                containers::Provisioner::External => Provisioner::External,
            };
            if found != Provisioner::External && !own || one == Provisioner::External {
                found = one;
            }
        }
        found
    }

    /// Stops all of them.
    pub(super) async fn stop(self, deadline: Duration, ui: &Ui) {
        for entry in self.running {
            let stopped = match entry.server {
                Ok(Started::One(server)) if server.provisioner() != containers::Provisioner::External => {
                    server.stop(deadline).await
                }
                Ok(Started::Cluster(cluster)) => cluster.stop(deadline).await,
                Ok(Started::One(_)) | Err(_) => Ok(()),
            };
            if let Err(error) = stopped {
                ui.say(&format!("stopping {}: {error}", entry.backend.name()));
            }
        }
    }
}

/// Three members as child processes. Ours are this very program, so that nothing has to be built first.
async fn start_store(
    backend: containers::Backend,
    options: containers::StartOptions,
) -> Result<containers::Cluster, String> {
    let mut options = options;
    if options.via == containers::Via::Docker {
        return Err("stores are started natively only".to_owned());
    }
    if backend == containers::Backend::Kv && options.program.is_none() {
        options.program = std::env::current_exe().ok();
        options.program_args = vec!["kvnode".to_owned()];
    }
    containers::start_cluster(backend, STORE_NODES, &options).await.map_err(|e| e.to_string())
}

fn is_flushed(request: &SubjectRequest) -> bool {
    // Stores always are.
    request.durability == Some(Durability::PowerLoss) || request.backend.is_store()
}
