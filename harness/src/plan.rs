//! Who sends what when: fixed before the start, from the profile and a seed.
//!
//! A plan is a pure function of (profile, seed, shard): slot *n* of a phase has one due time, one key and
//! one body, whoever sends it and however late. Shard *i* of *k* owns the slots `i, i + k, i + 2k, …` of
//! every open phase and its share of the messages in flight of every closed one, so shards need not talk.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Nanos;
use crate::profile::{Arrivals, Keys, Model, Profile, ProfileError, Trace};

mod body;
mod key_choice;
mod schedule;

pub use body::Bodies;
pub use key_choice::KeyChoice;
pub use schedule::Schedule;

/// One part of a plan that is cut into `of` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shard {
    /// From 0.
    pub index: u16,
    /// How many there are.
    pub of: u16,
}

impl Shard {
    /// The whole plan in one part.
    pub const WHOLE: Self = Self { index: 0, of: 1 };
}

/// What one shard sends.
#[derive(Debug)]
pub struct Plan {
    /// Names of the keys, by index.
    pub keys: Vec<Bytes>,
    /// In order of time.
    pub phases: Vec<PhasePlan>,
}

/// What one shard sends in one phase.
#[derive(Debug)]
pub struct PhasePlan {
    /// Open phases: due times of this shard's slots.
    pub schedule: Option<Schedule>,
    /// This shard's share of the messages in flight.
    pub in_flight: u32,
    /// Which key slot *n* carries.
    pub keys: KeyChoice,
    /// Which body slot *n* carries.
    pub bodies: Bodies,
}

impl PhasePlan {
    /// When the phase ends that starts at `start` and is planned to last `duration`. A late schedule may catch
    /// up for half as long again, at least 2 and at most 30 seconds; then what is unsent stays so.
    pub fn end_ns(&self, start: Nanos, duration: Duration) -> Nanos {
        let span = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let overrun = match self.schedule {
            None => 0,
            Some(_) => (span / 2).clamp(2_000_000_000, 30_000_000_000),
        };
        start + span + overrun
    }

    /// The share of the messages in flight of each of `of` senders.
    pub fn in_flight_each(&self, of: u16) -> u32 {
        self.in_flight.div_ceil(u32::from(of)).max(1)
    }

    /// Messages per second that this shard offers, averaged over the phase; 0 in a closed phase.
    pub fn mean_rate_per_s(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 messages")]
        self.schedule.as_ref().map_or(0.0, |s| s.slots() as f64 / s.span().as_secs_f64())
    }
}

impl Plan {
    /// Plans `shard` of `profile` under `seed`. Reads the trace or payload file that the profile names.
    ///
    /// # Errors
    /// When such a file cannot be read or does not fit the profile.
    pub fn new(profile: &Profile, seed: u64, shard: Shard) -> Result<Self, ProfileError> {
        let workload = &profile.workload;
        let trace = workload.trace.as_ref().map(crate::profile::TraceSource::load).transpose()?;
        let keys = key_names(workload.keys, trace.as_ref());
        if keys.len() as u64 * u64::from(workload.all_producers()) > 4_000_000 {
            return Err(ProfileError::unreadable(
                "the trace",
                "it has more than 4 million pairs of producer and key, whose order cannot all be proven",
            ));
        }
        let bodies = Bodies::new(&workload.payload, trace.as_ref(), seed)?;
        let phases = profile
            .phases
            .iter()
            .zip(0_u64..)
            .map(|(phase, index)| {
                let seed = mix(seed, index + 1);
                PhasePlan {
                    schedule: (phase.model == Model::Open).then(|| {
                        let rate = phase.rate.as_ref().expect("validated: an open phase has a rate");
                        let poisson = (phase.arrivals == Arrivals::Poisson).then_some(seed);
                        Schedule::new(rate, phase.duration.0, poisson, trace.as_ref(), shard)
                    }),
                    in_flight: share(phase.in_flight(), shard),
                    keys: KeyChoice::new(workload.keys, trace.as_ref(), seed, shard),
                    bodies: bodies.for_shard(shard),
                }
            })
            .collect();
        Ok(Self { keys, phases })
    }
}

fn key_names(keys: Keys, trace: Option<&Trace>) -> Vec<Bytes> {
    match keys {
        Keys::None => vec![Bytes::new()],
        Keys::Uniform { count } | Keys::Zipf { count, .. } => {
            (0..count).map(|key| Bytes::from(format!("key-{key:06}"))).collect()
        }
        Keys::Trace => trace.map(|t| t.keys.clone()).unwrap_or_default(),
    }
}

/// The part of `total` that falls to a shard; the parts sum to `total`, but none is zero.
fn share(total: u32, shard: Shard) -> u32 {
    let (index, of) = (u32::from(shard.index), u32::from(shard.of));
    (total / of + u32::from(index < total % of)).max(1)
}

/// A well-spread number from two (the finalizer of SplitMix64; Steele, Lea, Flood 2014).
pub(crate) fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
