//! `queuebench up`: one subject's servers, until Ctrl-C.

use std::time::Duration;

use clap::Args;
use queuebench_testcontainers::{Provisioner, Running, StartOptions, start};

use super::{Class, Usage, Way, print, runtime, say, stop_on_signal};
use crate::exit::Exit;
use crate::subject::Backend;
use crate::ui::Ui;

/// One subject's servers.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// nats, kafka or composite (both)
    subject: Backend,
    /// How they may be started
    #[arg(long, value_enum, default_value = "auto")]
    via: Way,
    /// What an acknowledgement must survive
    #[arg(long, value_enum, value_name = "CLASS", default_value = "process-crash")]
    durability: Class,
    /// The clients' port; a free one unless given
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Up {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        if self.subject.is_store() {
            return Err(Usage(format!("{} is started by `queuebench compare kv` only", self.subject)).into());
        }
        if self.subject == Backend::Cluster {
            return Err(Usage("a cluster is started by `queuebench run` only".to_owned()).into());
        }
        if self.subject.servers().is_empty() {
            print(&format!("{} needs no server", self.subject));
            return Ok(Exit::Done);
        }
        runtime()?.block_on(self.hold())
    }

    async fn hold(self) -> anyhow::Result<Exit> {
        let ui = Ui::detect();
        let stop = stop_on_signal();
        let mut running: Vec<Running> = Vec::new();
        let mut failure = None;
        for &backend in self.subject.servers() {
            let step = ui.step(&format!("starting {}", backend.name()));
            let options = StartOptions {
                via: self.via.into(),
                durability: self.durability.into(),
                port: self.port,
                progress: step.progress(),
                ..StartOptions::from_env(backend)
            };
            let started = tokio::select! {
                started = start(backend, options) => started,
                () = stop.cancelled() => break,
            };
            match started {
                Ok(server) => {
                    step.done(&format!(
                        "{} {} ({})",
                        backend.name(),
                        server.version(),
                        server.provisioner().name()
                    ));
                    print(&format!("{} {}", backend.name(), server.address()));
                    running.push(server);
                }
                Err(error) => {
                    step.fail(&error.to_string());
                    failure = Some(error);
                    break;
                }
            }
        }
        if failure.is_none() {
            say("running; Ctrl-C stops");
            stop.cancelled().await;
        }
        for server in running.iter().filter(|s| s.provisioner() != Provisioner::External) {
            server.stop(Duration::from_secs(15)).await?;
        }
        Ok(if failure.is_some() { Exit::Missing } else { Exit::Done })
    }
}
