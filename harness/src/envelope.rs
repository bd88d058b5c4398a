//! What makes every message provable: 48 bytes in front of its body.
//!
//! They name the trial, the producer, the sequence, the key, the phase and the due time, and carry a
//! checksum over all of the message but itself. All integers are little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | XXH3-64 of everything from offset 8 on |
//! | 8 | 8 | trial id |
//! | 16 | 8 | sequence, per producer, from 0 |
//! | 24 | 8 | due time, monotonic clock of the sender, ns |
//! | 32 | 4 | length of the whole message |
//! | 36 | 4 | key index |
//! | 40 | 2 | producer |
//! | 42 | 2 | phase |
//! | 44 | 4 | magic `QBM1` |

use bytes::BytesMut;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Nanos;

/// Bytes in front of every body; no payload can be smaller.
pub const LEN: usize = 48;

const MAGIC: u32 = u32::from_le_bytes(*b"QBM1");

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which trial of which run sent it.
    pub trial_id: u64,
    /// Place among its producer's messages.
    pub sequence: u64,
    /// When it was due.
    pub due: Nanos,
    /// Index of its key, 0 without keys.
    pub key: u32,
    /// Who sent it.
    pub producer: u16,
    /// In which phase of the profile.
    pub phase: u16,
}

/// What a received payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Whole, and of this trial.
    Whole(Envelope),
    /// Of another trial, another run or another program.
    Stray,
    /// Of this trial by its looks, but altered.
    Corrupted,
}

impl Envelope {
    /// Appends envelope and body to `buffer` and seals them with the checksum.
    ///
    /// # Panics
    /// When the message is longer than 4 GiB; profiles are validated against that.
    pub fn seal(&self, body: &[u8], buffer: &mut BytesMut) {
        let start = buffer.len();
        let total = u32::try_from(LEN + body.len()).expect("profiles bound a payload far below 4 GiB");
        let mut head = [0_u8; LEN];
        head[8..16].copy_from_slice(&self.trial_id.to_le_bytes());
        head[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        head[24..32].copy_from_slice(&self.due.to_le_bytes());
        head[32..36].copy_from_slice(&total.to_le_bytes());
        head[36..40].copy_from_slice(&self.key.to_le_bytes());
        head[40..42].copy_from_slice(&self.producer.to_le_bytes());
        head[42..44].copy_from_slice(&self.phase.to_le_bytes());
        head[44..48].copy_from_slice(&MAGIC.to_le_bytes());
        buffer.extend_from_slice(&head);
        buffer.extend_from_slice(body);
        let checksum = xxh3_64(&buffer[start + 8..]);
        buffer[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Opens a received payload. A payload that carries this trial's id or our magic but fails its checksum
    /// or its length is corrupted; everything else that is not ours is stray.
    pub fn open(payload: &[u8], trial_id: u64) -> Received {
        let Some((head, _)) = payload.split_at_checked(LEN) else {
            // A truncated message of ours still shows the id.
            let ours = payload.get(8..16).is_some_and(|id| id == trial_id.to_le_bytes());
            return if ours { Received::Corrupted } else { Received::Stray };
        };
        let u64_at = |at: usize| u64::from_le_bytes(array(head, at));
        let u32_at = |at: usize| u32::from_le_bytes(array(head, at));
        let sound = u64_at(0) == xxh3_64(&payload[8..])
            && usize::try_from(u32_at(32)) == Ok(payload.len())
            && u32_at(44) == MAGIC;
        let id = u64_at(8);
        match (sound, id == trial_id) {
            (true, true) => Received::Whole(Self {
                trial_id,
                sequence: u64_at(16),
                due: u64_at(24),
                key: u32_at(36),
                producer: u16::from_le_bytes(array(head, 40)),
                phase: u16::from_le_bytes(array(head, 42)),
            }),
            (true, false) => Received::Stray,
            (false, true) => Received::Corrupted,
            (false, false) if u32_at(44) == MAGIC => Received::Corrupted,
            (false, false) => Received::Stray,
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> Envelope {
        Envelope { trial_id: 7, sequence: 42, due: 1_234_567, key: 3, producer: 1, phase: 2 }
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        envelope().seal(body, &mut buffer);
        buffer.to_vec()
    }

    #[test]
    fn what_is_sealed_opens() {
        assert_eq!(Envelope::open(&sealed(b"body"), 7), Received::Whole(envelope()));
        assert_eq!(Envelope::open(&sealed(b""), 7), Received::Whole(envelope()));
    }

    #[test]
    fn another_trials_message_is_stray() {
        assert_eq!(Envelope::open(&sealed(b"body"), 8), Received::Stray);
        assert_eq!(Envelope::open(b"hello", 7), Received::Stray);
        assert_eq!(Envelope::open(&[0; 100], 7), Received::Stray);
    }

    #[test]
    fn a_truncated_message_is_corrupted() {
        let whole = sealed(b"body");
        for cut in [16, 30, LEN, whole.len() - 1] {
            assert_eq!(Envelope::open(&whole[..cut], 7), Received::Corrupted, "cut at {cut}");
        }
    }

    proptest! {
        /// No single flipped bit goes unnoticed.
        #[test]
        fn a_flipped_bit_is_never_whole(body in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
            let mut bytes = sealed(&body);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(Envelope::open(&bytes, 7), Received::Whole(_)));
        }
    }
}
