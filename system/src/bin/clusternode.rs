//! `clusternode`: one node of a coordination cluster, set up by environment variables or flags.
//!
//! Ends with 0 when asked to (interrupt, termination), 1 when it cannot start or its disk fails, 2 on bad usage.
//! A second interrupt ends it at once.

use std::process::ExitCode;

use clap::Parser as _;
use queuebench_system::cluster::program::{Args, run};

fn main() -> ExitCode {
    run(Args::parse())
}
