//! Copies small byte ranges into shared blocks, so that a received message costs no allocation of its own.
//!
//! Bounds: a block is 64 KiB, so a message that is kept keeps at most that much alive beside itself.
//! Ranges over 16 KiB get memory of their own.

use bytes::{Bytes, BytesMut};

const BLOCK_BYTES: usize = 64 * 1024;
const SMALL_BYTES: usize = 16 * 1024;

/// The block being filled.
#[derive(Debug, Default)]
pub(super) struct Arena {
    block: BytesMut,
}

impl Arena {
    /// A shared copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > SMALL_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        self.make_room(bytes.len());
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }

    /// Shared copies of two ranges that usually live and die together.
    pub(super) fn copy_pair(&mut self, first: &[u8], second: &[u8]) -> (Bytes, Bytes) {
        let length = first.len() + second.len();
        if first.is_empty() || second.is_empty() || length > SMALL_BYTES {
            return (self.copy(first), self.copy(second));
        }
        self.make_room(length);
        self.block.extend_from_slice(first);
        self.block.extend_from_slice(second);
        let mut first_copy = self.block.split().freeze();
        let second_copy = first_copy.split_off(first.len());
        (first_copy, second_copy)
    }

    /// `BytesMut::reserve` would move a block that is still shared; a new one is cheaper.
    fn make_room(&mut self, length: usize) {
        if self.block.capacity() - self.block.len() < length {
            self.block = BytesMut::with_capacity(BLOCK_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        // Whatever is copied in whatever order, every copy equals its source, also after later copies.
        #[test]
        fn every_copy_equals_its_source(
            ranges in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..20_000), prop::collection::vec(any::<u8>(), 0..300)),
                0..12,
            )
        ) {
            let mut arena = Arena::default();
            let copies: Vec<_> = ranges
                .iter()
                .map(|(one, two)| (arena.copy(one), arena.copy_pair(two, one)))
                .collect();
            for ((one, two), (copy, (pair_two, pair_one))) in ranges.iter().zip(&copies) {
                prop_assert_eq!(one, copy);
                prop_assert_eq!(one, pair_one);
                prop_assert_eq!(two, pair_two);
            }
        }
    }
}
