//! The harness: loads, trials, runs and the `queuebench` program.
//!
//! In the order of one message's way:
//!
//! - [`profile`] and [`units`]: a load, in TOML.
//! - [`plan`]: who sends what when, fixed before the start.
//! - [`subject`]: what is measured.
//! - [`clock`], [`envelope`], [`ledger`], [`recorder`]: time, proof and latencies.
//! - [`trial`]: one pass of a profile over one queue, in this process.
//! - [`operation`]: the same for subjects that are operated on rather than published to.
//! - [`store`], [`cluster`]: key-value stores and coordination clusters as such subjects.
//! - [`shard`]: a trial, or a part of one, as a process; [`event`]: what it tells meanwhile; [`merge`]: the
//!   parts joined.
//! - [`consistency`]: judges the recorded history of a store.
//! - [`run`]: all trials of all subjects, into one folder; [`capacity`]: which rate a search tries next.
//! - [`cli`], [`ui`], [`exit`]: the program.
//!
//! Nothing here averages percentiles, and no wall clock enters a result.

pub mod capacity;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod consistency;
pub mod envelope;
pub mod event;
pub mod exit;
pub mod ledger;
mod line;
pub mod merge;
pub mod operation;
pub mod plan;
pub mod profile;
pub mod recorder;
pub mod run;
pub mod shard;
pub mod store;
pub mod subject;
pub mod trial;
pub mod ui;
pub mod units;
