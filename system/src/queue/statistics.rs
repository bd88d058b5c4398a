//! What a queue counts.

use serde::Serialize;

/// Counters of one client since it was opened.
///
/// They add up: `accepted = acknowledged + rejected + unknown + in flight`, and
/// `delivered = acked + nacked + in hand` once every drop has been taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Messages the client accepted.
    pub accepted: u64,
    /// Of these, acknowledged by the backend.
    pub acknowledged: u64,
    /// Of these, certainly refused by the backend.
    pub rejected: u64,
    /// Of these, without a clear answer.
    pub unknown: u64,
    /// Messages the client itself refused (full, closed, too large); not part of `accepted`.
    pub refused: u64,
    /// Acknowledgements that said "already there" (deduplicated by id).
    pub deduplicated: u64,
    /// Messages handed to consumers, redeliveries included.
    pub delivered: u64,
    /// Of these, delivered for a second or later time.
    pub redelivered: u64,
    /// Deliveries acknowledged by consumers.
    pub acked: u64,
    /// Deliveries given back, dropped ones included.
    pub nacked: u64,
    /// Times the connection was lost and made again.
    pub reconnects: u64,
    /// Most messages that fit, where there is such a bound.
    pub capacity: Option<u64>,
    /// A composite's children, by name. The figures above then count logical messages, not copies.
    pub children: Vec<(String, Statistics)>,
}

/// How much is in a queue, as the backend counts it. Unknown is absent, never a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Depth {
    /// Messages waiting to be delivered.
    pub ready: Option<u64>,
    /// Messages delivered and not yet acknowledged.
    pub unacknowledged: Option<u64>,
}

impl Depth {
    /// Everything that is not yet processed, if both parts are known.
    pub fn total(self) -> Option<u64> {
        Some(self.ready? + self.unacknowledged?)
    }
}
