//! The harness.

pub mod clock;
pub mod envelope;
pub mod ledger;
pub mod plan;
pub mod profile;
pub mod units;
