//! The first four bytes of a key's MD5, and nothing else of it.
//!
//! MD5 is the contract and nearly all that a lookup costs, so keys that fit one block ([`BLOCK_KEY_BYTES`])
//! are hashed here: one block on the stack, the sums arranged so that each step waits for as little of the
//! one before as MD5 allows, and without the last three of its 64 steps, whose words are not asked for.
//! Longer keys go through the `md5` crate, which the tests also hold the short form against.

use md5::{Digest as _, Md5};

/// The longest key that fits one block, beside the end mark and its length.
const BLOCK_KEY_BYTES: usize = 55;

/// What each step adds, as RFC 1321 lists it.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// What every digest begins with.
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The first four bytes of the digest as an unsigned big-endian number.
pub(super) fn leading_u32(key: &[u8]) -> u32 {
    if key.len() <= BLOCK_KEY_BYTES { of_block(&block(key)) } else { of_any(key) }
}

fn of_any(key: &[u8]) -> u32 {
    let digest = Md5::digest(key);
    let (lead, _) = digest.split_first_chunk::<4>().expect("an MD5 digest has 16 bytes");
    u32::from_be_bytes(*lead)
}

/// The key, its end mark and its length in bits, as sixteen words.
fn block(key: &[u8]) -> [u32; 16] {
    let mut bytes = [0; 64];
    bytes[..key.len()].copy_from_slice(key);
    bytes[key.len()] = 0x80;
    bytes[56..].copy_from_slice(&(key.len() as u64 * 8).to_le_bytes());
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

fn of_block(words: &[u32; 16]) -> u32 {
    let mut state = START;
    for at in (0..16).step_by(4) {
        four(&mut state, at, words, |at| at, [7, 12, 17, 22], choose);
    }
    for at in (16..32).step_by(4) {
        four(&mut state, at, words, |at| 5 * at + 1, [5, 9, 14, 20], choose_by_last);
    }
    for at in (32..48).step_by(4) {
        four(&mut state, at, words, |at| 3 * at + 5, [4, 11, 16, 23], parity);
    }
    for at in (48..60).step_by(4) {
        four(&mut state, at, words, |at| 7 * at, [6, 10, 15, 21], mixed);
    }
    let [a, b, c, d] = state;
    // The first word changes for the last time; what follows changes the three others.
    let a = step([a, words[(7 * 60) % 16], SINES[60]], 6, b, |sum| mixed(sum, b, c, d));
    a.wrapping_add(START[0]).swap_bytes()
}

/// Four steps, after which the words are in their places again.
#[inline(always)]
fn four(
    state: &mut [u32; 4],
    at: usize,
    words: &[u32; 16],
    place: impl Fn(usize) -> usize,
    turns: [u32; 4],
    mix: impl Fn(u32, u32, u32, u32) -> u32,
) {
    let [a, b, c, d] = *state;
    let terms = |old, at: usize| [old, words[place(at) % 16], SINES[at]];
    let a = step(terms(a, at), turns[0], b, |sum| mix(sum, b, c, d));
    let d = step(terms(d, at + 1), turns[1], a, |sum| mix(sum, a, b, c));
    let c = step(terms(c, at + 2), turns[2], d, |sum| mix(sum, d, a, b));
    let b = step(terms(b, at + 3), turns[3], c, |sum| mix(sum, c, d, a));
    *state = [a, b, c, d];
}

/// The terms are known long before the newest word, so they are added up first.
#[inline(always)]
fn step([old, word, sine]: [u32; 3], turn: u32, newest: u32, mix: impl FnOnce(u32) -> u32) -> u32 {
    mix(old.wrapping_add(sine.wrapping_add(word))).rotate_left(turn).wrapping_add(newest)
}

#[inline(always)]
fn choose(sum: u32, x: u32, y: u32, z: u32) -> u32 {
    sum.wrapping_add((x & (y ^ z)) ^ z)
}

/// Both halves have no bit in common, so adding them one by one is the same as or-ing them, and the half
/// without the newest word need not wait for it.
#[inline(always)]
fn choose_by_last(sum: u32, x: u32, y: u32, z: u32) -> u32 {
    sum.wrapping_add(y & !z).wrapping_add(x & z)
}

#[inline(always)]
fn parity(sum: u32, x: u32, y: u32, z: u32) -> u32 {
    sum.wrapping_add(x ^ (y ^ z))
}

#[inline(always)]
fn mixed(sum: u32, x: u32, y: u32, z: u32) -> u32 {
    sum.wrapping_add(y ^ (x | !z))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK_KEY_BYTES, leading_u32, of_any};

    #[test]
    fn every_length_around_a_block_hashes_as_the_crate_does() {
        for length in 0..=2 * BLOCK_KEY_BYTES + 40 {
            let key: Vec<u8> =
                (0..length).map(|at| u8::try_from((at * 37 + length) % 256).unwrap()).collect();
            assert_eq!(leading_u32(&key), of_any(&key), "{length} bytes");
        }
    }

    proptest! {
        /// Any bytes, any length: the same number.
        #[test]
        fn any_key_hashes_as_the_crate_does(key in proptest::collection::vec(any::<u8>(), 0..130)) {
            prop_assert_eq!(leading_u32(&key), of_any(&key));
        }
    }
}
