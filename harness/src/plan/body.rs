//! What each message carries after its envelope.

use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{Shard, mix};
use crate::envelope;
use crate::profile::{Payload, ProfileError, Trace};

/// Bodies in the pool of a random or JSON payload. Enough that a backend's compression finds no repeats
/// within a batch; few enough to stay in the cache at usual sizes.
const POOL: usize = 64;

/// The bodies of a phase, all built before it starts.
#[derive(Clone, Debug)]
pub struct Bodies {
    pool: Arc<[Bytes]>,
    shard: Shard,
}

impl Bodies {
    /// Builds the pool.
    ///
    /// # Errors
    /// When a payload file cannot be read.
    pub fn new(payload: &Payload, trace: Option<&Trace>, seed: u64) -> Result<Self, ProfileError> {
        let body_len = |size: u64| usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(envelope::LEN);
        let pool: Vec<Bytes> = match payload {
            Payload::Fixed { size } => vec![random(body_len(size.0), 1.0, seed)],
            Payload::Random { size, random_ratio } => {
                (0..POOL as u64).map(|i| random(body_len(size.0), *random_ratio, mix(seed, i))).collect()
            }
            Payload::Json { size } => {
                (0..POOL as u64).map(|i| json(body_len(size.0), mix(seed, i))).collect()
            }
            Payload::File { path } => {
                let body = std::fs::read(path)
                    .map_err(|e| ProfileError::unreadable(&path.display().to_string(), &e.to_string()))?;
                vec![Bytes::from(body)]
            }
            Payload::Trace => {
                trace.iter().flat_map(|t| &t.records).map(|record| record.body.clone()).collect()
            }
        };
        Ok(Self { pool: pool.into(), shard: Shard::WHOLE })
    }

    /// The same bodies, for the slots of one shard.
    #[must_use]
    pub fn for_shard(&self, shard: Shard) -> Self {
        Self { shard, ..self.clone() }
    }

    /// The body of the shard's slot `n`.
    pub fn of_slot(&self, n: u64) -> &Bytes {
        let n = n * u64::from(self.shard.of) + u64::from(self.shard.index);
        &self.pool[usize::try_from(n % self.pool.len() as u64).expect("an index into memory")]
    }

    /// The longest message with its envelope.
    pub fn max_message_bytes(&self) -> usize {
        self.pool.iter().map(Bytes::len).max().unwrap_or(0) + envelope::LEN
    }
}

fn random(len: usize, random_ratio: f64, seed: u64) -> Bytes {
    let mut body = vec![0; len];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length that fits memory"
    )]
    let random_len = (len as f64 * random_ratio) as usize;
    Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut body[..random_len.min(len)]);
    Bytes::from(body)
}

/// A JSON document of exactly `len` bytes (padded with spaces), with the repetitions that JSON has.
fn json(len: usize, seed: u64) -> Bytes {
    use std::fmt::Write as _;
    let mut text = String::from("{\"readings\":[");
    let mut n = seed;
    loop {
        n = mix(n, 1);
        let mut item = String::new();
        let comma = if text.ends_with('[') { "" } else { "," };
        let _ = write!(
            item,
            "{comma}{{\"device\":\"meter-{:04}\",\"kwh\":{}.{:03},\"ok\":{}}}",
            n % 10_000,
            n >> 16 & 0xff,
            (n >> 24) % 1_000,
            n & 1 == 0
        );
        if text.len() + item.len() + 2 > len {
            break;
        }
        text.push_str(&item);
    }
    text.push_str("]}");
    let mut body = text.into_bytes();
    body.resize(len, b' ');
    Bytes::from(body)
}
