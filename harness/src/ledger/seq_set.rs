//! A set of sequence numbers that arrive nearly in order.
//!
//! One bit per sequence in blocks of 65,536, and no memory for a block that is empty or full. A full block
//! is the common case after a healthy run, so the set of 100 million messages shrinks to its edges. It is
//! stored as a serialized roaring bitmap, the format others read.

use roaring::RoaringTreemap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const BITS: u64 = 1 << 16;
const WORDS: usize = 1 << 10;

/// The largest sequence a set takes: 2^40 messages of one producer, an index of 16 million blocks.
const MAX_SEQUENCE: u64 = (1 << 40) - 1;

/// A set of `u64` up to 2^40 - 1.
#[derive(Clone, Debug, Default)]
pub struct SeqSet {
    blocks: Vec<Block>,
    len: u64,
}

#[derive(Clone, Debug, Default)]
enum Block {
    #[default]
    Empty,
    Some {
        words: Box<[u64; WORDS]>,
        len: u32,
    },
    Full,
}

impl SeqSet {
    /// Adds a sequence; false if it was there. A sequence past that is not taken (no producer
    /// sends one, so its envelope cannot be whole) and answers true.
    pub fn insert(&mut self, sequence: u64) -> bool {
        if sequence > MAX_SEQUENCE {
            return true;
        }
        let (block, bit) = place(sequence);
        if block >= self.blocks.len() {
            self.blocks.resize(block + 1, Block::Empty);
        }
        let fresh = self.blocks[block].insert(bit);
        self.len += u64::from(fresh);
        fresh
    }

    /// Whether it is there.
    pub fn contains(&self, sequence: u64) -> bool {
        let (block, bit) = place(sequence.min(MAX_SEQUENCE));
        sequence <= MAX_SEQUENCE
            && self.blocks.get(block).is_some_and(|b| b.word(bit / 64) >> (bit % 64) & 1 == 1)
    }

    /// How many are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are also in `other`.
    pub fn len_in(&self, other: &Self) -> u64 {
        self.blocks.iter().zip(&other.blocks).map(|(a, b)| a.common(b)).sum()
    }

    /// How many are not in `other`.
    pub fn len_without(&self, other: &Self) -> u64 {
        self.len - self.len_in(other)
    }

    /// Adds all of `other`; returns how many were already there.
    pub fn absorb(&mut self, other: &Self) -> u64 {
        let common = self.len_in(other);
        if self.blocks.len() < other.blocks.len() {
            self.blocks.resize(other.blocks.len(), Block::Empty);
        }
        for (mine, theirs) in self.blocks.iter_mut().zip(&other.blocks) {
            mine.absorb(theirs);
        }
        self.len += other.len - common;
        common
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().zip(0_u64..).flat_map(|(block, index)| {
            (0..WORDS).flat_map(move |word| {
                let bits = block.word(word);
                (0..64_u64)
                    .filter(move |bit| bits >> bit & 1 == 1)
                    .map(move |bit| index * BITS + word as u64 * 64 + bit)
            })
        })
    }
}

impl FromIterator<u64> for SeqSet {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut set = Self::default();
        for sequence in sequences {
            set.insert(sequence);
        }
        set
    }
}

fn place(sequence: u64) -> (usize, usize) {
    let block = usize::try_from(sequence / BITS).expect("2^24 blocks fit any address space");
    let bit = usize::try_from(sequence % BITS).expect("less than 65,536");
    (block, bit)
}

impl Block {
    fn insert(&mut self, bit: usize) -> bool {
        match self {
            Self::Full => false,
            Self::Empty => {
                *self = Self::Some { words: Box::new([0; WORDS]), len: 0 };
                self.insert(bit)
            }
            Self::Some { words, len } => {
                let word = &mut words[bit / 64];
                let mask = 1 << (bit % 64);
                if *word & mask != 0 {
                    return false;
                }
                *word |= mask;
                *len += 1;
                if u64::from(*len) == BITS {
                    *self = Self::Full;
                }
                true
            }
        }
    }

    fn word(&self, index: usize) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full => u64::MAX,
            Self::Some { words, .. } => words[index],
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full => BITS,
            Self::Some { len, .. } => u64::from(*len),
        }
    }

    fn common(&self, other: &Self) -> u64 {
        match (self, other) {
            (Self::Empty, _) | (_, Self::Empty) => 0,
            (Self::Full, some) | (some, Self::Full) => some.len(),
            (Self::Some { words: a, .. }, Self::Some { words: b, .. }) => {
                a.iter().zip(b.iter()).map(|(a, b)| u64::from((a & b).count_ones())).sum()
            }
        }
    }

    fn absorb(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Empty) | (Self::Full, _) => {}
            (_, Self::Full) => *self = Self::Full,
            (Self::Empty, some) => *self = some.clone(),
            (Self::Some { words: mine, len }, Self::Some { words: theirs, .. }) => {
                *len = 0;
                for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                    *mine |= theirs;
                    *len += mine.count_ones();
                }
                if u64::from(*len) == BITS {
                    *self = Self::Full;
                }
            }
        }
    }
}

impl Serialize for SeqSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut treemap: RoaringTreemap = self.iter().collect();
        treemap.optimize();
        let mut bytes = Vec::new();
        treemap.serialize_into(&mut bytes).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&Hex(&bytes))
    }
}

impl<'de> Deserialize<'de> for SeqSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let bytes =
            unhex(&text).ok_or_else(|| D::Error::custom("a sequence set is pairs of hexadecimal digits"))?;
        let treemap = RoaringTreemap::deserialize_from(&bytes[..])
            .map_err(|e| D::Error::custom(format!("not a roaring bitmap: {e}")))?;
        if treemap.max().is_some_and(|max| max > MAX_SEQUENCE) {
            return Err(D::Error::custom(format!("a sequence is at most {MAX_SEQUENCE}")));
        }
        Ok(treemap.into_iter().collect())
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_block_owns_no_memory_and_is_still_exact() {
        let set: SeqSet = (0..BITS * 2 + 3).collect();
        assert!(matches!(set.blocks[0], Block::Full));
        assert_eq!(set.len(), BITS * 2 + 3);
        assert!(set.contains(BITS) && !set.contains(BITS * 2 + 3));
    }

    #[test]
    fn a_hundred_million_sequences_stay_small_when_dense() {
        let mut set = SeqSet::default();
        for sequence in 0..1_000_000 {
            set.insert(sequence);
        }
        let words = set.blocks.iter().filter(|b| matches!(b, Block::Some { .. })).count();
        assert_eq!(words, 1, "all blocks but the last are full");
    }

    fn sequences() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(prop_oneof![0..200_u64, 65_500..65_600_u64, 0..300_000_u64], 0..200)
    }

    proptest! {
        /// The set agrees with the standard library's on every operation.
        #[test]
        fn it_is_a_set(a in sequences(), b in sequences()) {
            let mut left: SeqSet = a.iter().copied().collect();
            let right: SeqSet = b.iter().copied().collect();
            prop_assert_eq!(left.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(left.len(), a.len() as u64);
            prop_assert_eq!(left.len_in(&right), a.intersection(&b).count() as u64);
            prop_assert_eq!(left.len_without(&right), a.difference(&b).count() as u64);
            prop_assert_eq!(left.absorb(&right), a.intersection(&b).count() as u64);
            prop_assert_eq!(left.iter().collect::<BTreeSet<_>>(), a.union(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(left.len(), a.union(&b).count() as u64);
        }

        /// A set survives its file.
        #[test]
        fn it_survives_its_file(a in sequences()) {
            let set: SeqSet = a.iter().copied().collect();
            let back: SeqSet = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
            prop_assert_eq!(back.iter().collect::<BTreeSet<_>>(), a);
        }
    }
}
