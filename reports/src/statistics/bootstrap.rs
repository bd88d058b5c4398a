//! Medians and their percentile-bootstrap intervals, reproducible from a seed.
//!
//! With up to five values the interval is the range of the values: no resampling can know more.

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

/// Resamples per interval; the 2.5 % points of 2,000 wander by less than the spread of a few trials.
const RESAMPLES: usize = 2_000;

/// The median; of an even number of values the mean of the middle two. `None` of nothing.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    (!sorted.is_empty()).then(|| median_in_place(&mut sorted))
}

fn median_in_place(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// The 95 % percentile-bootstrap interval of the median. `values` must not be empty.
pub(super) fn interval95(values: &[f64], seed: u64) -> [f64; 2] {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut resample = Vec::with_capacity(values.len());
    interval_of(|| resampled_median(values, &mut resample, &mut rng))
}

/// The 95 % percentile-bootstrap interval of the ratio of two medians. Neither may be empty.
pub(super) fn ratio_interval95(above: &[f64], below: &[f64], seed: u64) -> [f64; 2] {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut resample = Vec::with_capacity(above.len().max(below.len()));
    interval_of(|| {
        let above = resampled_median(above, &mut resample, &mut rng);
        above / resampled_median(below, &mut resample, &mut rng)
    })
}

fn resampled_median(values: &[f64], resample: &mut Vec<f64>, rng: &mut Pcg64) -> f64 {
    resample.clear();
    resample.extend((0..values.len()).map(|_| values[rng.random_range(0..values.len())]));
    median_in_place(resample)
}

fn interval_of(mut draw: impl FnMut() -> f64) -> [f64; 2] {
    let mut drawn: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    [drawn[tail - 1], drawn[RESAMPLES - tail]]
}

/// A seed for one interval, so that adding a subject changes no other's interval (FNV-1a over the parts).
pub(super) fn seed_of(seed: u64, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
