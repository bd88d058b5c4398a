//! Which key each slot carries.

use std::sync::Arc;

use super::{Shard, mix};
use crate::profile::{Keys, Trace};

/// Maps a slot to a key index, reproducibly and without state.
#[derive(Clone, Debug)]
pub struct KeyChoice {
    seed: u64,
    shard: Shard,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    None,
    Uniform(u32),
    /// Cumulative shares of the keys, ascending to 1.
    Zipf(Arc<[f64]>),
    Listed(Arc<[u32]>),
}

impl KeyChoice {
    /// The choice for one phase.
    pub fn new(keys: Keys, trace: Option<&Trace>, seed: u64, shard: Shard) -> Self {
        let form = match keys {
            Keys::None => Form::None,
            Keys::Uniform { count } => Form::Uniform(count),
            Keys::Zipf { count, exponent } => Form::Zipf(cumulative(count, exponent)),
            Keys::Trace => {
                Form::Listed(trace.iter().flat_map(|t| &t.records).map(|record| record.key).collect())
            }
        };
        Self { seed, shard, form }
    }

    /// The key of the shard's slot `n`.
    pub fn of_slot(&self, n: u64) -> u32 {
        let n = n * u64::from(self.shard.of) + u64::from(self.shard.index);
        match &self.form {
            Form::None => 0,
            Form::Uniform(count) => {
                // Multiply and shift instead of a remainder: even, and no division.
                let high = (u128::from(mix(self.seed, n)) * u128::from(*count)) >> 64;
                u32::try_from(high).expect("below a 32-bit count")
            }
            Form::Zipf(shares) => {
                #[expect(clippy::cast_precision_loss, reason = "53 bits of a hash are what a double holds")]
                let at = (mix(self.seed, n) >> 11) as f64 / (1_u64 << 53) as f64;
                u32::try_from(shares.partition_point(|&share| share <= at)).expect("below a 32-bit count")
            }
            Form::Listed(keys) => keys[usize::try_from(n % keys.len() as u64).expect("an index into memory")],
        }
    }
}

fn cumulative(count: u32, exponent: f64) -> Arc<[f64]> {
    let mut sum = 0.0;
    let mut shares: Vec<f64> = (1..=count)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    for share in &mut shares {
        *share /= sum;
    }
    // Rounding must not leave a draw past the last key.
    if let Some(last) = shares.last_mut() {
        *last = 1.0;
    }
    shares.into()
}
