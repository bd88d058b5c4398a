//! What must hold of the store's revisions: one for each write, growing in real time, and the same for all
//! who see a value.

use std::collections::HashMap;

use super::history::{Entry, Kind, Outcome};

/// Broken rules, each in a sentence; the first few.
pub(super) fn broken(entries: &[Entry]) -> Vec<String> {
    const TOLD_MAX: usize = 10;
    let mut found = Vec::new();
    let mut writes: Vec<(&Entry, i64)> = entries
        .iter()
        .filter(|entry| {
            !matches!(entry.operation, Kind::Get | Kind::GetStale) && entry.outcome == Outcome::Ok
        })
        .filter_map(|entry| Some((entry, entry.revision?)))
        .collect();

    writes.sort_by_key(|(_, revision)| *revision);
    for pair in writes.windows(2) {
        if pair[0].1 == pair[1].1 {
            found.push(format!(
                "revision {} was given to two writes, of {} and {}",
                pair[0].1, pair[0].0.key, pair[1].0.key
            ));
        }
    }
    // Downwards: no write may have begun after one with a higher revision had ended.
    let mut earliest_end = u64::MAX;
    for (entry, revision) in writes.iter().rev() {
        if earliest_end < entry.start {
            found.push(format!(
                "revisions went back: {revision} of {} was begun after a higher one was acknowledged",
                entry.key
            ));
        }
        earliest_end = earliest_end.min(entry.end.unwrap_or(u64::MAX));
    }
    let of_value: HashMap<(&str, &str), i64> = writes
        .iter()
        .filter_map(|(entry, revision)| Some(((entry.key.as_str(), entry.argument.as_deref()?), *revision)))
        .collect();
    for entry in entries {
        let read = (entry.key.as_str(), entry.value.as_deref().unwrap_or_default());
        if let (Some(seen), Some(made)) = (entry.revision, of_value.get(&read))
            && seen != *made
        {
            found.push(format!("{} was written at revision {made} and read at {seen}", read.1));
        }
    }
    found.truncate(TOLD_MAX);
    found
}

/// Acknowledged writes of one key that the last read, begun after all of them had ended, should show and
/// does not.
pub(super) fn lost(entries: &[&Entry]) -> u64 {
    let is_read = |entry: &&&Entry| entry.operation == Kind::Get && entry.outcome == Outcome::Ok;
    let Some(last) = entries.iter().filter(is_read).max_by_key(|entry| entry.start) else { return 0 };
    let seen = last.revision.unwrap_or(0);
    let acknowledged = entries.iter().filter(|entry| {
        matches!(entry.operation, Kind::Put | Kind::Cas)
            && entry.outcome == Outcome::Ok
            && entry.end.is_some_and(|end| end < last.start)
            && entry.revision.is_some_and(|revision| revision > seen)
    });
    // A delete explains an absence.
    let deleted = entries.iter().any(|entry| entry.operation == Kind::Delete);
    if deleted { 0 } else { acknowledged.count() as u64 }
}
