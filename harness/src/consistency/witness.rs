//! Tries the order that the store's revisions suggest. If it is legal and respects real time, it proves the
//! register linearizable; if not, that proves nothing yet.

use std::collections::{BTreeMap, HashMap};

use super::register::{Effect, Op, Value};

/// Whether the suggested order is a proof.
pub(super) fn proves(ops: &[Op]) -> bool {
    let order = suggested(ops);
    is_legal(&order) && respects_time(&order)
}

/// By revision; a write before those who read it; what has no revision where it could have happened.
fn suggested(ops: &[Op]) -> Vec<Op> {
    // A write without an answer has the revision at which its value was read.
    let read: HashMap<Value, i64> = ops
        .iter()
        .filter_map(|op| match op.effect {
            Effect::Read(value) => Some((value, op.revision?)),
            _ => None,
        })
        .collect();
    let revision = |op: &Op| op.revision.or_else(|| read.get(&op.effect.written()?).copied());
    let written: BTreeMap<i64, Value> =
        ops.iter().filter_map(|op| Some((revision(op)?, op.effect.written()?))).collect();
    let revision_of: HashMap<Value, i64> =
        written.iter().map(|(revision, value)| (*value, *revision)).collect();

    // The highest revision that was over before a time: by end, with the running maximum.
    let mut ended: Vec<(u64, i64)> = ops.iter().filter_map(|op| Some((op.end, revision(op)?))).collect();
    ended.sort_unstable();
    let mut highest = i64::MIN;
    for (_, revision) in &mut ended {
        highest = highest.max(*revision);
        *revision = highest;
    }
    let over_before = |time: u64| match ended.partition_point(|(end, _)| *end < time) {
        0 => 0,
        n => ended[n - 1].1,
    };

    let mut placed: Vec<(i64, u8, u64, Op)> = ops
        .iter()
        .map(|op| {
            let after = over_before(op.start);
            let at = match (revision(op), op.effect) {
                (Some(revision), _) => revision,
                // After what it expected was replaced.
                (None, Effect::Kept { expected }) => {
                    let since = revision_of.get(&expected).copied().unwrap_or(0);
                    let replaced = written.range(since + 1..).next().map_or(i64::MAX, |(at, _)| *at);
                    if after > since { after } else { replaced.max(after) }
                }
                // Nobody saw the key: before it was written.
                (None, Effect::Read(_)) => after,
                // Nobody saw what it wrote: as if it had not happened yet.
                (None, _) => i64::MAX,
            };
            let class = u8::from(op.effect.written().is_none());
            (at, class, op.start, *op)
        })
        .collect();
    placed.sort_by_key(|(at, class, start, _)| (*at, *class, *start));
    placed.into_iter().map(|(.., op)| op).collect()
}

fn is_legal(order: &[Op]) -> bool {
    order.iter().try_fold(0, |state, op| op.effect.apply(state)).is_some()
}

/// No operation comes before one that had ended when it began.
fn respects_time(order: &[Op]) -> bool {
    let mut earliest_end = u64::MAX;
    order.iter().rev().all(|op| {
        let kept = earliest_end >= op.start;
        earliest_end = earliest_end.min(op.end);
        kept
    })
}
