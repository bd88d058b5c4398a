//! A stretch of a profile with one load model.

use serde::{Deserialize, Serialize};

use super::RateShape;
use crate::units::Span;

/// A stretch of a profile with one load model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Unique in the profile.
    pub name: String,
    /// How load is offered.
    pub model: Model,
    /// Open phases only: messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateShape>,
    /// Open phases only: how due times are spread around the rate.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Closed phases: how many messages are in flight. Open phases: the bound at which the schedule falls
    /// behind; 20,000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// How long it lasts.
    pub duration: Span,
    /// Whether its figures count; a warm-up's do not.
    #[serde(default = "yes")]
    pub measured: bool,
    /// Whether consumers take messages meanwhile.
    #[serde(default)]
    pub consumers: Consumers,
    /// What is done to a subject that is operated on, a store for instance; queues have no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// The bound of an open phase that names none: two seconds of 10,000 messages/s.
const OPEN_IN_FLIGHT: u32 = 20_000;

impl Phase {
    /// The bound on messages in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.unwrap_or(OPEN_IN_FLIGHT)
    }
}

fn yes() -> bool {
    true
}

/// How load is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Messages are due on a schedule that waits for nobody.
    Open,
    /// A fixed number in flight: as fast as it goes.
    Closed,
}

/// How due times are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// As independent users do: exponentially distributed gaps, from the seed.
    Poisson,
}

/// Whether consumers take messages in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consumers {
    /// They do.
    #[default]
    Running,
    /// They do not: a backlog builds.
    Paused,
}
