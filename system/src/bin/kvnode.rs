//! `kvnode`: one member of a key-value cluster.
//!
//! Ends with 0 when asked to (interrupt, termination), 1 when it cannot start or has failed, 2 on bad usage.

use std::process::ExitCode;

use clap::Parser as _;
use queuebench_system::kv::program::{Args, run};

fn main() -> ExitCode {
    run(Args::parse())
}
