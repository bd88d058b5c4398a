//! `queuebench backends`: what can be started here, by which way, and why not.

use clap::Args;
use queuebench_testcontainers::{Availability, StartOptions, survey};

use super::{print, runtime};
use crate::exit::Exit;
use crate::subject::Backend;

/// A survey of this machine.
#[derive(Debug, Args)]
pub(super) struct Backends {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Backends {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let runtime = runtime()?;
        let mut ways = Vec::new();
        for server in Backend::Composite.servers() {
            ways.extend(runtime.block_on(survey(*server, &StartOptions::from_env(*server))));
        }
        if self.json {
            print(&serde_json::to_string_pretty(&ways)?);
            return Ok(Exit::Done);
        }
        let row = |subject: &str, way: &str, state: &str, what: &str| {
            print(&format!("{subject:10} {way:9} {state:12} {what}"));
        };
        row("SUBJECT", "WAY", "STATE", "WHAT");
        for backend in [Backend::Memory, Backend::Null] {
            row(backend.name(), "embedded", "available", "in the trial's own process");
        }
        let own = "nodes of this very program, fresh for every trial";
        row(Backend::Cluster.name(), "native", "available", own);
        for way in ways {
            let versioned = |version: Option<String>, what: &str| {
                version.map_or_else(|| what.to_owned(), |version| format!("{version}: {what}"))
            };
            let (state, what) = match way.availability {
                Availability::Available { version, what } => ("available", versioned(version, &what)),
                Availability::Obtainable { version, how } => ("obtainable", versioned(version, &how)),
                Availability::Closed { reason } => ("closed", reason),
            };
            row(way.backend.name(), way.provisioner.name(), state, &what);
        }
        row("composite", "", "", "needs nats and kafka");
        Ok(Exit::Done)
    }
}
