//! Memory for messages, cut in advance.
//!
//! A message is three byte ranges: id, key and payload. They are cut from one block in one go, before any of
//! them is handed out: the count of references to the block is then touched by the sender once per block and
//! otherwise only by whoever drops the messages, so the two do not fight over its cache line at every message
//! (it cost a fifth of the sender's time). A message costs no allocation of its own, unless it is large.

use bytes::BytesMut;

/// What is cut at once; some hundred messages of usual size.
const BLOCK_BYTES: usize = 64 << 10;

/// Longer messages get a block each: pieces are as long as the longest seen, and short messages between long
/// ones must not hold much more memory than they need.
const LARGE_BYTES: usize = 2 << 10;

/// Room for one message. All parts are empty and have the capacity that was asked for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) id: BytesMut,
    pub(super) key: BytesMut,
    pub(super) payload: BytesMut,
}

/// How long the parts of a piece are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) id: usize,
    pub(super) key: usize,
    pub(super) payload: usize,
}

/// The pieces that are left of the current block.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    lengths: Lengths,
    /// The next one last.
    pieces: Vec<Piece>,
}

impl Lengths {
    fn total(self) -> usize {
        self.id + self.key + self.payload
    }

    fn fit_in(self, other: Self) -> bool {
        self.id <= other.id && self.key <= other.key && self.payload <= other.payload
    }

    fn longest(self, other: Self) -> Self {
        Self {
            id: self.id.max(other.id),
            key: self.key.max(other.key),
            payload: self.payload.max(other.payload),
        }
    }
}

impl Blocks {
    /// Room for a message of these lengths.
    pub(super) fn take(&mut self, needed: Lengths) -> Piece {
        if needed.total() > LARGE_BYTES {
            let mut block = BytesMut::with_capacity(needed.total());
            return cut(&mut block, needed);
        }
        if !needed.fit_in(self.lengths) || self.pieces.is_empty() {
            self.refill(needed);
        }
        self.pieces.pop().expect("a block holds at least one piece")
    }

    fn refill(&mut self, needed: Lengths) {
        self.lengths = self.lengths.longest(needed);
        let count = (BLOCK_BYTES / self.lengths.total().max(1)).clamp(1, 1_024);
        let mut block = BytesMut::with_capacity(count * self.lengths.total());
        self.pieces.clear();
        self.pieces.extend((0..count).map(|_| cut(&mut block, self.lengths)));
        self.pieces.reverse();
    }
}

/// Cuts a piece off the front of an empty block.
fn cut(block: &mut BytesMut, lengths: Lengths) -> Piece {
    let mut front = |len: usize| {
        if len == 0 {
            return BytesMut::new();
        }
        let rest = block.split_off(len);
        std::mem::replace(block, rest)
    };
    Piece { id: front(lengths.id), key: front(lengths.key), payload: front(lengths.payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(piece: Piece, with: u8, lengths: Lengths) -> [bytes::Bytes; 3] {
        let parts = [(piece.id, lengths.id), (piece.key, lengths.key), (piece.payload, lengths.payload)];
        parts.map(|(mut part, len)| {
            assert!(part.is_empty() && part.capacity() >= len, "{part:?} for {len}");
            part.resize(len, with);
            part.freeze()
        })
    }

    #[test]
    fn pieces_of_changing_length_do_not_overlap() {
        let mut blocks = Blocks::default();
        let mut kept = Vec::new();
        for n in 0..3_000_usize {
            let lengths = Lengths { id: n % 37, key: n % 11, payload: (n * 131) % 5_000 };
            let with = n.to_le_bytes()[0];
            kept.push((with, fill(blocks.take(lengths), with, lengths)));
        }
        for (with, parts) in kept {
            assert!(parts.iter().all(|part| part.iter().all(|byte| *byte == with)));
        }
    }

    #[test]
    fn a_short_message_after_a_long_one_holds_little_memory() {
        let mut blocks = Blocks::default();
        blocks.take(Lengths { payload: 1 << 20, ..Lengths::default() });
        assert!(blocks.take(Lengths { payload: 10, ..Lengths::default() }).payload.capacity() < BLOCK_BYTES);
        assert!(blocks.lengths.total() <= LARGE_BYTES);
    }
}
