//! The search for the highest rate that holds an objective.
//!
//! Pure: [`Search::next`] says which rate to try, [`Search::tell`] takes what came of it. The rate grows by a
//! factor until it fails (or shrinks by it until it holds), then the gap to the lowest failure is halved on a
//! logarithmic scale until it is within the precision, then the found rate is tried again: it counts when most
//! of those trials hold, else a lower one is tried. Every stage is bounded, so the search ends.

use queuebench_reports::record::{CapacityLimit, ProbeKind};

/// How far a rate that was not confirmed is lowered in all, at most: five steps that double.
const STEPS_BACK: i32 = 5;
/// Below the first rate, the search goes down by this factor at most before it gives up.
const FLOOR: f64 = 1_000.0;

/// Where to search, and how closely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The first rate tried, messages per second.
    pub from_per_s: f64,
    /// No higher rate is tried.
    pub to_per_s: f64,
    /// From one rate to the next; over 1.
    pub growth: f64,
    /// The found rate is at most this share below one that failed.
    pub precision: f64,
    /// Trials at the found rate, of which the majority has to hold.
    pub confirmations: u32,
}

impl Bounds {
    /// The lowest rate that is tried.
    pub fn floor_per_s(&self) -> f64 {
        (self.from_per_s / FLOOR).max(1.0)
    }
}

/// What a trial at some rate showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The objective held.
    Held,
    /// The subject broke it.
    Broke,
    /// It did not hold, and the harness was the limit.
    HarnessLimited,
}

/// A search under way, for one subject.
#[derive(Clone, Debug)]
pub struct Search {
    bounds: Bounds,
    good: Option<f64>,
    /// The lowest rate that failed, and whether that was the subject.
    bad: Option<(f64, Verdict)>,
    stage: Stage,
    hurried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Search(f64, ProbeKind),
    Confirm { rate: f64, held: u32, tried: u32, steps_back: i32 },
    Done(Option<f64>),
}

impl Search {
    /// A search that has tried nothing.
    pub fn new(bounds: Bounds) -> Self {
        let first = readable(bounds.from_per_s);
        Self { bounds, good: None, bad: None, stage: Stage::Search(first, ProbeKind::Growth), hurried: false }
    }

    /// The rate to try next, and what for; none when the search is over.
    pub fn next(&self) -> Option<(f64, ProbeKind)> {
        match self.stage {
            Stage::Search(rate, kind) => Some((rate, kind)),
            Stage::Confirm { rate, .. } => Some((rate, ProbeKind::Confirmation)),
            Stage::Done(_) => None,
        }
    }

    /// Takes what the trial at [`next`](Self::next) showed.
    pub fn tell(&mut self, verdict: Verdict) {
        match self.stage {
            Stage::Done(_) => {}
            Stage::Search(rate, _) => {
                if verdict == Verdict::Held {
                    self.good = Some(rate);
                } else {
                    self.bad = Some((rate, verdict));
                }
                self.stage = self.search_on();
            }
            Stage::Confirm { rate, held, tried, steps_back } => {
                let held = held + u32::from(verdict == Verdict::Held);
                let tried = tried + 1;
                let (needed, all) = (self.bounds.confirmations / 2 + 1, self.bounds.confirmations);
                self.stage = if held >= needed && tried == all {
                    Stage::Done(Some(rate))
                } else if held + (all - tried) >= needed {
                    Stage::Confirm { rate, held, tried, steps_back }
                } else {
                    self.bad = Some((rate, verdict));
                    self.step_back(rate, steps_back + 1)
                };
            }
        }
    }

    /// No more searching: the best rate that held so far is confirmed.
    pub fn hurry(&mut self) {
        if let Stage::Search(..) = self.stage {
            self.hurried = true;
            self.stage = self.good.map_or(Stage::Done(None), confirm);
        }
    }

    /// Whether it is at the stage that repeats the found rate.
    pub fn is_confirming(&self) -> bool {
        matches!(self.stage, Stage::Confirm { .. })
    }

    /// The confirmed rate, once the search is over, and why it is not higher.
    pub fn found(&self) -> (Option<f64>, CapacityLimit) {
        let highest = match self.stage {
            Stage::Done(highest) => highest,
            _ => None,
        };
        let limit = match self.bad {
            _ if self.hurried => CapacityLimit::Time,
            None => CapacityLimit::UpperBound,
            Some((_, Verdict::HarnessLimited)) => CapacityLimit::Harness,
            Some(_) => CapacityLimit::Slo,
        };
        (highest, limit)
    }

    fn search_on(&self) -> Stage {
        let Bounds { to_per_s, growth, precision, .. } = self.bounds;
        match (self.good, self.bad.map(|(rate, _)| rate)) {
            (Some(good), None) if good >= to_per_s => confirm(good),
            (Some(good), None) => Stage::Search(readable((good * growth).min(to_per_s)), ProbeKind::Growth),
            (None, Some(bad)) => {
                let lower = readable(bad / growth);
                if lower < self.bounds.floor_per_s() || lower >= bad {
                    return Stage::Done(None);
                }
                Stage::Search(lower, ProbeKind::Growth)
            }
            (Some(good), Some(bad)) => {
                let middle = readable((good * bad).sqrt());
                // Rounding must not try a rate twice.
                if bad / good <= 1.0 + precision || middle <= good || middle >= bad {
                    return confirm(good);
                }
                Stage::Search(middle, ProbeKind::Bisection)
            }
            (None, None) => unreachable!("a trial was told of"),
        }
    }

    /// Lower by ever larger steps.
    fn step_back(&self, rate: f64, steps: i32) -> Stage {
        let lower = readable(rate / (1.0 + self.bounds.precision * 2_f64.powi(steps)));
        if steps > STEPS_BACK || lower < self.bounds.floor_per_s() || lower >= rate {
            return Stage::Done(None);
        }
        Stage::Confirm { rate: lower, held: 0, tried: 0, steps_back: steps }
    }
}

fn confirm(rate: f64) -> Stage {
    Stage::Confirm { rate, held: 0, tried: 0, steps_back: 0 }
}

/// Three significant digits: more would pretend a precision that no search has.
fn readable(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.log10().floor() - 2.0);
    ((rate / unit).round() * unit).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { from_per_s: 1_000.0, to_per_s: 1e6, growth: 2.0, precision: 0.05, confirmations: 3 };

    /// Searches a subject that answers as `holds` says; the rates tried, in order.
    fn run(bounds: Bounds, mut holds: impl FnMut(f64, ProbeKind) -> Verdict) -> (Search, Vec<f64>) {
        let mut search = Search::new(bounds);
        let mut tried = Vec::new();
        while let Some((rate, kind)) = search.next() {
            tried.push(rate);
            assert!(tried.len() < 200, "the search ends");
            search.tell(holds(rate, kind));
        }
        (search, tried)
    }

    fn up_to(capacity: f64) -> impl FnMut(f64, ProbeKind) -> Verdict {
        move |rate, _| if rate <= capacity { Verdict::Held } else { Verdict::Broke }
    }

    #[test]
    fn it_grows_then_halves_then_confirms() {
        let (search, tried) = run(BOUNDS, up_to(11_000.0));
        assert_eq!(tried[..5], [1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0]);
        assert_eq!(tried[5], 11_300.0, "the middle of 8,000 and 16,000 on a logarithmic scale");
        let (found, limit) = search.found();
        let found = found.unwrap();
        assert!((11_000.0 / 1.06..=11_000.0).contains(&found), "{found}");
        assert_eq!(tried[tried.len() - 3..], [found; 3]);
        assert_eq!(limit, CapacityLimit::Slo);
    }

    #[test]
    fn a_first_rate_that_fails_leads_downwards_and_nothing_at_all_to_none() {
        let (search, _) = run(BOUNDS, up_to(130.0));
        assert!((120.0..=130.0).contains(&search.found().0.unwrap()));
        let (search, tried) = run(BOUNDS, |_, _| Verdict::Broke);
        assert_eq!(search.found(), (None, CapacityLimit::Slo));
        assert!(tried.iter().all(|rate| *rate >= 1.0) && tried.len() < 15, "{tried:?}");
    }

    #[test]
    fn the_upper_bound_and_the_harness_are_named_as_limits() {
        assert_eq!(run(BOUNDS, |_, _| Verdict::Held).0.found(), (Some(1e6), CapacityLimit::UpperBound));
        let (search, _) =
            run(BOUNDS, |rate, _| if rate <= 50_000.0 { Verdict::Held } else { Verdict::HarnessLimited });
        assert_eq!(search.found().1, CapacityLimit::Harness);
    }

    #[test]
    fn a_rate_that_held_once_by_luck_is_not_the_answer() {
        let (search, _) = run(BOUNDS, |rate, kind| {
            let held = rate <= 5_000.0 || (rate <= 9_000.0 && kind != ProbeKind::Confirmation);
            if held { Verdict::Held } else { Verdict::Broke }
        });
        assert!(search.found().0.unwrap() <= 5_000.0);
    }

    #[test]
    fn one_disturbed_confirmation_is_outvoted() {
        let mut confirmations = 0;
        let (search, _) = run(BOUNDS, |rate, kind| {
            confirmations += u32::from(kind == ProbeKind::Confirmation);
            if rate > 3_000.0 || (kind == ProbeKind::Confirmation && confirmations == 2) {
                return Verdict::Broke;
            }
            Verdict::Held
        });
        assert!(search.found().0.is_some());
        assert_eq!(confirmations, 3);
    }

    #[test]
    fn in_a_hurry_the_best_so_far_is_confirmed() {
        let mut search = Search::new(BOUNDS);
        for _ in 0..3 {
            search.tell(Verdict::Held);
        }
        search.hurry();
        assert_eq!(search.next(), Some((4_000.0, ProbeKind::Confirmation)));
        for _ in 0..3 {
            search.tell(Verdict::Held);
        }
        assert_eq!(search.found(), (Some(4_000.0), CapacityLimit::Time));
        let mut fresh = Search::new(BOUNDS);
        fresh.hurry();
        assert_eq!((fresh.next(), fresh.found().0), (None, None));
    }

    proptest! {
        /// Whatever a subject carries, the search ends, and finds it within the precision and the rounding.
        #[test]
        fn every_capacity_is_found(capacity in 2.0_f64..900_000.0, growth in 1.3_f64..10.0) {
            let (search, tried) = run(Bounds { growth, ..BOUNDS }, up_to(capacity));
            let found = search.found().0.unwrap();
            prop_assert!(found <= capacity);
            // Three digits of a small number are coarser than the precision.
            prop_assert!(found * 1.06 + 1.0 >= capacity, "{found} of {capacity} by {tried:?}");
        }
    }
}
