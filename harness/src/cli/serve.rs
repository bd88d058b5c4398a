//! `queuebench serve`: one service of the pipeline, as this program carries it.
//!
//! `compare pipeline` starts its services this way; the programs of the same names do the same.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use queuebench_system::pipeline::program::{self, Program};

use crate::exit::Exit;

/// Run one service of the pipeline, set up by the environment (for `compare pipeline` itself)
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Which
    #[arg(value_enum)]
    service: Service,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Service {
    ApiGateway,
    Ingest,
    Processor,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let (name, shutdown_s, run): (_, _, fn(Program, std::iter::Once<OsString>) -> ExitCode) =
            match self.service {
                Service::ApiGateway => ("api-gateway", 5, program::gateway_with),
                Service::Ingest => ("ingest", 5, program::ingest_with),
                Service::Processor => ("processor", 30, program::processor_with),
            };
        let about = "One service of the pipeline";
        let program = Program { name, about, environment: "", shutdown_s };
        let code = run(program, std::iter::once(OsString::from(name)));
        Ok(if code == ExitCode::SUCCESS { Exit::Done } else { Exit::Failed })
    }
}
