//! Planted faults must be found, sound histories must pass, and an independent checker must agree.

use proptest::prelude::*;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::history::{Entry, Kind, Outcome};
use super::register::{Effect, Op};
use super::*;

/// A sound history of `writes` writes to each of two keys by sequential processes, each read back at once.
fn sound(writes: i64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..writes {
        for (index, key) in ["a", "b"].into_iter().enumerate() {
            let at = u64::try_from(number).unwrap() * 100 + 10 * u64::try_from(index).unwrap();
            let revision = 2 * number + 2 + i64::try_from(index).unwrap();
            let value = format!("{key}-{number}");
            entries.push(put(key, &value, revision, at, at + 5));
            entries.push(get(key, Some(&value), Some(revision), at + 6, at + 8));
        }
    }
    entries
}

fn entry(operation: Kind, key: &str, start: u64, end: u64) -> Entry {
    Entry {
        process: 1,
        operation,
        key: key.to_owned(),
        argument: None,
        expected: None,
        outcome: Outcome::Ok,
        value: None,
        revision: None,
        start,
        end: Some(end),
    }
}

fn put(key: &str, value: &str, revision: i64, start: u64, end: u64) -> Entry {
    Entry { argument: Some(value.to_owned()), revision: Some(revision), ..entry(Kind::Put, key, start, end) }
}

fn get(key: &str, value: Option<&str>, revision: Option<i64>, start: u64, end: u64) -> Entry {
    Entry { value: value.map(str::to_owned), revision, ..entry(Kind::Get, key, start, end) }
}

fn verdict(entries: &[Entry]) -> Verdict {
    judge(entries, 1_000_000).verdict
}

#[test]
fn a_sound_history_passes_without_a_search() {
    let judgement = judge(&sound(100), 1_000_000);
    assert_eq!((judgement.verdict, judgement.searched), (Verdict::Linearizable, 0), "{judgement:?}");
    assert_eq!((judgement.operations, judgement.keys), (400, 2));
}

#[test]
fn one_stale_read_among_many_is_caught() {
    let mut entries = sound(100);
    // Begins after write 50 was acknowledged, and sees write 49.
    entries.push(get("a", Some("a-49"), Some(100), 5_007, 5_009));
    let judgement = judge(&entries, 1_000_000);
    assert_eq!(judgement.verdict, Verdict::Violated);
    assert!(judgement.findings[0].contains("key a"), "{judgement:?}");
    // The same as a serializable read is allowed.
    entries.last_mut().unwrap().operation = Kind::GetStale;
    assert_eq!(verdict(&entries), Verdict::Linearizable);
}

#[test]
fn one_lost_write_is_caught_and_counted() {
    let mut entries = sound(10);
    // Acknowledged, and the last read does not show it.
    entries.push(put("a", "a-lost", 40, 2_000, 2_010));
    entries.push(get("a", Some("a-9"), Some(20), 3_000, 3_010));
    let judgement = judge(&entries, 1_000_000);
    assert_eq!((judgement.verdict, judgement.lost), (Verdict::Violated, 1), "{judgement:?}");
}

#[test]
fn an_unknown_write_may_show_later_or_never_but_not_vanish_again() {
    let unknown =
        Entry { outcome: Outcome::Unknown, end: None, revision: None, ..put("a", "late", 0, 20, 0) };
    let before = [put("a", "x", 2, 0, 5), unknown];
    let with = |reads: &[Entry]| [&before[..], reads].concat();
    let old = |start| get("a", Some("x"), Some(2), start, start + 5);
    let new = |start| get("a", Some("late"), Some(3), start, start + 5);
    assert_eq!(verdict(&with(&[old(100), old(200)])), Verdict::Linearizable);
    assert_eq!(verdict(&with(&[old(100), new(200)])), Verdict::Linearizable);
    assert_eq!(verdict(&with(&[new(100), old(200)])), Verdict::Violated);
}

#[test]
fn compare_and_set_must_have_found_what_it_claims() {
    let cas = |expected: &str, new: &str, outcome, revision, start| Entry {
        argument: Some(new.to_owned()),
        expected: Some(expected.to_owned()),
        outcome,
        revision,
        ..entry(Kind::Cas, "a", start, start + 5)
    };
    let first = put("a", "1", 2, 0, 5);
    let swap = cas("1", "2", Outcome::Ok, Some(3), 10);
    assert_eq!(verdict(&[first.clone(), swap.clone()]), Verdict::Linearizable);
    let conflict = cas("1", "3", Outcome::Conflict, None, 20);
    assert_eq!(verdict(&[first.clone(), swap.clone(), conflict.clone()]), Verdict::Linearizable);
    // Two swaps from the same value cannot both have succeeded.
    let second = cas("1", "3", Outcome::Ok, Some(4), 20);
    assert_eq!(verdict(&[first.clone(), swap, second]), Verdict::Violated);
    // A conflict with nothing that could have caused it.
    assert_eq!(verdict(&[first, conflict]), Verdict::Violated);
}

#[test]
fn revisions_must_be_unique_and_grow_in_real_time() {
    let twice = [put("a", "1", 5, 0, 5), put("b", "2", 5, 10, 15)];
    assert_eq!(verdict(&twice), Verdict::Violated);
    let back = [put("a", "1", 6, 0, 5), put("b", "2", 5, 10, 15)];
    assert_eq!(verdict(&back), Verdict::Violated);
    let concurrent = [put("a", "1", 6, 0, 12), put("b", "2", 5, 10, 15)];
    assert_eq!(verdict(&concurrent), Verdict::Linearizable);
}

#[test]
fn a_search_without_budget_is_undecided_and_not_passed() {
    // Without revisions there is no suggestion, and 30 concurrent writes have many orders.
    let mut entries: Vec<Entry> =
        (0..30).map(|n| Entry { revision: None, ..put("a", &format!("{n}"), 0, n, 1_000) }).collect();
    entries.extend((0..30).map(|n| get("a", Some(&format!("{n}")), None, 2_000 + 10 * n, 2_005 + 10 * n)));
    let judgement = judge(&entries, 10_000);
    assert_eq!(judgement.verdict, Verdict::Undecided, "{judgement:?}");
    assert!(judgement.findings.iter().any(|f| f.contains("undecided")));
}

#[test]
fn what_nobody_wrote_cannot_be_read() {
    let mut entries = sound(3);
    entries.push(Entry { operation: Kind::GetStale, ..get("a", Some("ghost"), None, 900, 905) });
    assert_eq!(verdict(&entries), Verdict::Violated);
}

#[test]
fn a_history_survives_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let entries = sound(5);
    history::write(file.path(), &entries).unwrap();
    assert_eq!(history::read(file.path()).unwrap(), entries);
    std::fs::write(file.path(), "{\"process\":1}\n").unwrap();
    let error = history::read(file.path()).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
}

/// The same register for the checker of the crate `todc-utils`.
struct RegisterSpecification;

impl Specification for RegisterSpecification {
    type State = u32;
    type Operation = Effect;

    fn init() -> u32 {
        0
    }

    fn apply(effect: &Effect, state: &u32) -> (bool, u32) {
        effect.apply(*state).map_or((false, *state), |next| (true, next))
    }
}

fn theirs(ops: &[Op]) -> bool {
    let mut times: Vec<(u64, bool, usize)> = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        times.push((op.start, false, index));
        times.push((op.end, true, index));
    }
    times.sort_unstable();
    let actions = times.into_iter().map(|(_, is_return, index)| {
        let effect = ops[index].effect;
        (index, if is_return { Action::Response(effect) } else { Action::Call(effect) })
    });
    WGLChecker::<RegisterSpecification>::is_linearizable(History::from_actions(actions.collect()))
}

fn any_op() -> impl Strategy<Value = Op> {
    let value = 0..3_u32;
    let effect = prop_oneof![
        (1..3_u32).prop_map(Effect::Write),
        value.clone().prop_map(Effect::Read),
        (value.clone(), 1..3_u32).prop_map(|(expected, new)| Effect::Swapped { expected, new }),
        value.clone().prop_map(|expected| Effect::Kept { expected }),
        (value, 1..3_u32).prop_map(|(expected, new)| Effect::MaySwap { expected, new }),
    ];
    (0..30_u64, 1..15_u64, effect, proptest::bool::weighted(0.1)).prop_map(|(start, length, effect, open)| {
        Op { start, end: if open { u64::MAX } else { start + length }, revision: None, effect }
    })
}

proptest! {
    /// Our search and an independent checker agree on every small history.
    #[test]
    fn the_search_agrees_with_an_independent_checker(ops in proptest::collection::vec(any_op(), 1..9)) {
        prop_assert_eq!(search::linearizable(&ops, 1_000_000), Some(theirs(&ops)));
    }

    /// What the witness accepts, the search accepts: a suggestion is only taken when it is a proof.
    #[test]
    fn a_witness_is_a_proof(
        ops in proptest::collection::vec((any_op(), proptest::option::of(0..6_i64)), 1..9)
    ) {
        let ops: Vec<Op> = ops.into_iter().map(|(op, revision)| Op { revision, ..op }).collect();
        if witness::proves(&ops) {
            prop_assert_eq!(search::linearizable(&ops, 1_000_000), Some(true));
        }
    }
}
