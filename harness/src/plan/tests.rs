//! A plan is pure, complete and even.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::profile::{Payload, RateShape, TracePace};
use crate::units::{Rate, Span};

fn rate(per_second: f64) -> Rate {
    Rate::per_second(per_second)
}

fn due(shape: &RateShape, seconds: f64, shard: Shard) -> Vec<u64> {
    let schedule = Schedule::new(shape, Duration::from_secs_f64(seconds), None, None, shard);
    (0..schedule.slots()).map(|n| schedule.due_ns(n)).collect()
}

#[test]
fn a_constant_rate_is_even() {
    let due = due(&RateShape::Constant(rate(4.0)), 1.0, Shard::WHOLE);
    assert_eq!(due, [0, 250_000_000, 500_000_000, 750_000_000]);
}

#[test]
fn a_ramp_sends_its_mean_and_bends_as_it_should() {
    let due = due(&RateShape::Ramp { from: rate(1_000.0), to: rate(3_000.0) }, 2.0, Shard::WHOLE);
    assert_eq!(due.len(), 4_000);
    // By half time a quarter less than half is due: N(1) = 1000 + 1000/2.
    let by_half = due.partition_point(|&t| t < 1_000_000_000);
    assert!((1_499..=1_501).contains(&by_half), "{by_half}");
}

#[test]
fn a_spike_is_where_it_was_put() {
    let shape = RateShape::Spike {
        base: rate(100.0),
        peak: rate(1_000.0),
        at: Span(Duration::from_secs(1)),
        lasts: Span(Duration::from_secs(1)),
    };
    let due = due(&shape, 3.0, Shard::WHOLE);
    assert_eq!(due.len(), 1_200);
    let within = due.iter().filter(|&&t| (1_000_000_000..2_000_000_000).contains(&t)).count();
    assert_eq!(within, 1_000);
}

#[test]
fn poisson_arrivals_have_the_rate_the_spread_and_the_seed() {
    let shape = RateShape::Constant(rate(10_000.0));
    let draw = |seed| {
        let s = Schedule::new(&shape, Duration::from_secs(10), Some(seed), None, Shard::WHOLE);
        (0..s.slots()).map(|n| s.due_ns(n)).collect::<Vec<_>>()
    };
    let first = draw(1);
    assert_eq!(first, draw(1));
    assert_ne!(first, draw(2));
    assert!(first.is_sorted());
    // 100,000 expected, standard deviation 316.
    assert!((98_500..101_500).contains(&first.len()), "{}", first.len());
    let gaps: Vec<f64> = first.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
    assert!((deviation / mean - 1.0).abs() < 0.03, "an exponential gap deviates by its mean");
}

#[test]
fn a_trace_is_replayed_scaled_and_looped() {
    let record = |at_ns| crate::profile::TraceRecord { at_ns, key: 0, body: Bytes::new() };
    let trace = Trace { keys: vec![Bytes::new()], records: vec![record(0), record(1_000), record(4_000)] };
    let replay = |speed, repeat, ns| {
        let shape = RateShape::Trace(TracePace { speed, repeat });
        let s = Schedule::new(&shape, Duration::from_nanos(ns), None, Some(&trace), Shard::WHOLE);
        (0..s.slots()).map(|n| s.due_ns(n)).collect::<Vec<_>>()
    };
    assert_eq!(replay(1.0, false, 1_000_000), [0, 1_000, 4_000]);
    assert_eq!(replay(2.0, false, 1_000_000), [0, 500, 2_000]);
    assert_eq!(replay(1.0, true, 7_000), [0, 1_000, 4_000, 5_333, 6_333]);
    assert_eq!(replay(1.0, false, 2_000), [0, 1_000]);
}

#[test]
fn zipf_prefers_the_first_keys_as_much_as_it_should() {
    let choice = KeyChoice::new(Keys::Zipf { count: 100, exponent: 1.0 }, None, 9, Shard::WHOLE);
    let mut counts = [0_u32; 100];
    for n in 0..100_000 {
        counts[choice.of_slot(n) as usize] += 1;
    }
    // The first key's share is 1 / H(100) = 0.1928.
    assert!((18_500..20_100).contains(&counts[0]), "{}", counts[0]);
    assert!(counts[0] > counts[1] && counts[1] > counts[9] && counts[9] > counts[99]);
}

#[test]
fn json_bodies_are_json_of_the_right_size() {
    let payload = Payload::Json { size: crate::units::Size(300) };
    let bodies = Bodies::new(&payload, None, 1).unwrap();
    assert_eq!(bodies.max_message_bytes(), 300);
    for n in 0..64 {
        serde_json::from_slice::<serde_json::Value>(bodies.of_slot(n)).unwrap();
    }
}

#[test]
fn compressible_bodies_have_the_zeros_they_should() {
    let payload = Payload::Random { size: crate::units::Size(1_048), random_ratio: 0.25 };
    let bodies = Bodies::new(&payload, None, 1).unwrap();
    assert!(bodies.of_slot(0)[250..].iter().all(|&b| b == 0));
    assert!(bodies.of_slot(0)[..250].iter().filter(|&&b| b == 0).count() < 20);
}

proptest! {
    /// The shards of a plan are the plan, slot for slot: due times and keys.
    #[test]
    fn shards_add_up_to_the_whole(of in 1_u16..7, from in 1.0_f64..2_000.0, to in 1.0_f64..2_000.0, seed in any::<u64>()) {
        let shape = RateShape::Ramp { from: rate(from), to: rate(to) };
        let keys = Keys::Uniform { count: 50 };
        let slots = |shard: Shard| {
            let choice = KeyChoice::new(keys, None, seed, shard);
            due(&shape, 0.7, shard).into_iter().zip(0..).map(|(t, n)| (t, choice.of_slot(n))).collect::<Vec<_>>()
        };
        let mut parts: Vec<_> = (0..of).flat_map(|index| slots(Shard { index, of })).collect();
        let mut whole = slots(Shard::WHOLE);
        parts.sort_unstable();
        whole.sort_unstable();
        prop_assert_eq!(parts, whole);
    }

    /// Due times never go backwards and never leave the phase.
    #[test]
    fn due_times_ascend(from in 0.5_f64..5_000.0, to in 0.5_f64..5_000.0, seconds in 0.01_f64..3.0) {
        let due = due(&RateShape::Ramp { from: rate(from), to: rate(to) }, seconds, Shard::WHOLE);
        prop_assert!(due.is_sorted());
        prop_assert!(due.iter().all(|&t| Duration::from_nanos(t) <= Duration::from_secs_f64(seconds) + Duration::from_nanos(1)));
    }
}
