//! The harness.

pub mod clock;
pub mod envelope;
pub mod event;
pub mod ledger;
pub mod plan;
pub mod profile;
pub mod recorder;
pub mod subject;
pub mod trial;
pub mod units;
