//! When each slot of an open phase is due.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::Shard;
use crate::profile::{RateShape, Trace};

/// Due times of one shard's slots, as nanoseconds from the phase's start, ascending.
#[derive(Clone, Debug)]
pub struct Schedule {
    form: Form,
    shard: Shard,
    slots: u64,
    span: Duration,
}

#[derive(Clone, Debug)]
enum Form {
    /// Pieces of linear rate; due times by inverting the cumulative count.
    Pieces(Vec<Piece>),
    /// Written out, of all shards.
    Listed(Vec<u64>),
}

/// A stretch in which the rate goes linearly from one value to another.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start_s: f64,
    length_s: f64,
    from: f64,
    to: f64,
    /// Messages due before it.
    before: f64,
}

impl Piece {
    fn count(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.length_s
    }

    /// When the `nth` message of the piece is due, in seconds from the piece's start: the root of
    /// `from·t + (to − from)·t²/(2·length) = n`, in the form that does not cancel where the ramp is flat.
    fn due_s(&self, nth: f64) -> f64 {
        let slope = (self.to - self.from) / self.length_s;
        let root = (self.from * self.from + 2.0 * slope * nth).max(0.0).sqrt();
        (2.0 * nth / (self.from + root)).min(self.length_s)
    }
}

impl Schedule {
    /// The schedule of `shard` for a rate over `span`; Poisson arrivals where a seed is given.
    ///
    /// # Panics
    /// When the rate refers to a trace that is not given; profiles are validated against that.
    pub fn new(
        rate: &RateShape,
        span: Duration,
        poisson: Option<u64>,
        trace: Option<&Trace>,
        shard: Shard,
    ) -> Self {
        let form = match rate {
            RateShape::Trace(pace) => {
                let trace = trace.expect("validated: the rate's trace is there");
                Form::Listed(replay(trace, pace.speed, pace.repeat, span))
            }
            shape => {
                let pieces = pieces(shape, span);
                match poisson {
                    Some(seed) => Form::Listed(draw(&pieces, span, seed)),
                    None => Form::Pieces(pieces),
                }
            }
        };
        let all = match &form {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and bounded by a billion a second for a week"
            )]
            Form::Pieces(pieces) => {
                // A message is due at the very start; one at the very end belongs to the next phase.
                pieces.last().map_or(0.0, |p| p.before + p.count()).round() as u64
            }
            Form::Listed(due) => due.len() as u64,
        };
        let (index, of) = (u64::from(shard.index), u64::from(shard.of));
        let slots = if all > index { (all - index - 1) / of + 1 } else { 0 };
        Self { form, shard, slots, span }
    }

    /// How many slots this shard has.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// How long the phase lasts.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// When the shard's slot `n` is due, in nanoseconds from the phase's start.
    pub fn due_ns(&self, n: u64) -> u64 {
        let n = n * u64::from(self.shard.of) + u64::from(self.shard.index);
        match &self.form {
            Form::Listed(due) => {
                usize::try_from(n).ok().and_then(|n| due.get(n)).copied().unwrap_or(u64::MAX)
            }
            Form::Pieces(pieces) => {
                #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 messages")]
                let n = n as f64;
                let piece = &pieces[pieces.partition_point(|p| p.before <= n).saturating_sub(1)];
                let due_s = piece.start_s + piece.due_s(n - piece.before);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive, and a week in nanoseconds is below 2^50"
                )]
                let due_ns = (due_s * 1e9).round() as u64;
                due_ns
            }
        }
    }
}

fn pieces(shape: &RateShape, span: Duration) -> Vec<Piece> {
    let span_s = span.as_secs_f64();
    let stretches: Vec<(f64, f64, f64)> = match shape {
        RateShape::Constant(rate) => vec![(span_s, rate.get(), rate.get())],
        RateShape::Ramp { from, to } => vec![(span_s, from.get(), to.get())],
        RateShape::Steps(steps) => {
            #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
            let each = span_s / steps.len() as f64;
            steps.iter().map(|rate| (each, rate.get(), rate.get())).collect()
        }
        RateShape::Spike { base, peak, at, lasts } => {
            let (at, lasts) = (at.0.as_secs_f64(), lasts.0.as_secs_f64());
            vec![
                (at, base.get(), base.get()),
                (lasts, peak.get(), peak.get()),
                (span_s - at - lasts, base.get(), base.get()),
            ]
        }
        RateShape::Trace(_) => Vec::new(),
    };
    let (mut start_s, mut before) = (0.0, 0.0);
    stretches
        .into_iter()
        .filter(|(length, ..)| *length > 0.0)
        .map(|(length_s, from, to)| {
            let piece = Piece { start_s, length_s, from, to, before };
            start_s += length_s;
            before += piece.count();
            piece
        })
        .collect()
}

/// A Poisson process with the pieces' rate: unit-rate arrivals on the axis of cumulative count, put back on
/// the axis of time.
fn draw(pieces: &[Piece], span: Duration, seed: u64) -> Vec<u64> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let total = pieces.last().map_or(0.0, |p| p.before + p.count());
    let mut due = Vec::new();
    let mut at = 0.0;
    let mut piece = 0;
    loop {
        // 1 - u is in (0, 1], so the logarithm is finite.
        at -= (1.0 - random.random::<f64>()).ln();
        if at >= total {
            return due;
        }
        while piece + 1 < pieces.len() && pieces[piece + 1].before <= at {
            piece += 1;
        }
        let p = &pieces[piece];
        let due_s = (p.start_s + p.due_s(at - p.before)).min(span.as_secs_f64());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and a week in nanoseconds is below 2^50"
        )]
        due.push((due_s * 1e9) as u64);
    }
}

/// The trace's times at `speed`, cut at `span`, begun again at the end if `repeat`.
fn replay(trace: &Trace, speed: f64, repeat: bool, span: Duration) -> Vec<u64> {
    let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "trace times are positive and far below 2^53 microseconds; saturates"
    )]
    let scaled = |at_ns: u64| (at_ns as f64 / speed) as u64;
    let once: Vec<u64> = trace.records.iter().map(|r| scaled(r.at_ns)).collect();
    let last = once.last().copied().unwrap_or(0);
    // A loop begins one mean gap after the last record, and never at the same instant again.
    let period = last + (last / once.len().max(1) as u64).max(1_000);
    let mut due = Vec::new();
    let mut offset = 0;
    loop {
        for &at in &once {
            let at = at.saturating_add(offset);
            if at >= span_ns {
                return due;
            }
            due.push(at);
        }
        if !repeat {
            return due;
        }
        offset += period;
    }
}
