//! Judges a recorded history of a key-value store: are its registers linearizable, do its revisions only go
//! forward, is every acknowledged write still there?
//!
//! Each key is a register of its own (linearizability is local), first tried with the order that the
//! store's own revisions suggest (`witness`): if that order is legal and respects real time it is a proof,
//! whoever suggested it. Only where it is not, all orders are searched (`search`), within a budget of steps;
//! a search that runs out of it is *undecided*, never passed.
//! Serializable reads may be stale; of them only what must hold is checked: they show values that somebody
//! wrote. Refused operations did nothing; unknown ones may have happened at any time after their start.

use std::collections::{BTreeMap, HashMap};

pub mod history;
mod register;
mod revisions;
mod search;
#[cfg(test)]
mod tests;
mod witness;

use serde::{Deserialize, Serialize};

use history::{Entry, Kind, Outcome};
use register::{Effect, Op, Values};

/// Steps of a search over one key before it is given up.
pub const STEPS_MAX: u64 = 20_000_000;
/// Violations that are told in full.
const TOLD_MAX: usize = 20;

/// What a history proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every register is linearizable and every other rule is kept.
    Linearizable,
    /// No violation was found, but a search ran out of its budget.
    Undecided,
    /// A rule is broken.
    Violated,
}

impl Verdict {
    /// The verdict that a record names so.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Linearizable, Self::Undecided, Self::Violated]
            .into_iter()
            .find(|verdict| verdict.word() == word)
    }

    /// As in a record.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Undecided => "undecided",
            Self::Violated => "violated",
        }
    }
}

/// A history judged.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The worst of all rules.
    pub verdict: Verdict,
    /// Operations in the history.
    pub operations: usize,
    /// Keys with operations.
    pub keys: usize,
    /// Keys whose order had to be searched for.
    pub searched: usize,
    /// Acknowledged writes that a later read of the end should have seen and did not.
    pub lost: u64,
    /// The first broken rules and undecided keys, each in a sentence.
    pub findings: Vec<String>,
}

/// Judges `entries`, in any order, with at most `steps_max` steps of search for each key.
pub fn judge(entries: &[Entry], steps_max: u64) -> Judgement {
    let mut findings = revisions::broken(entries);
    let mut verdict = if findings.is_empty() { Verdict::Linearizable } else { Verdict::Violated };
    let mut by_key: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_key.entry(&entry.key).or_default().push(entry);
    }
    let (mut searched, mut lost) = (0, 0);
    for (key, entries) in &by_key {
        lost += revisions::lost(entries);
        if let Some(finding) = unwritten(key, entries) {
            verdict = Verdict::Violated;
            findings.push(finding);
        }
        let mut values = Values::default();
        let ops: Vec<Op> = entries.iter().filter_map(|entry| op(entry, &mut values)).collect();
        if witness::proves(&ops) {
            continue;
        }
        searched += 1;
        match search::linearizable(&ops, steps_max) {
            Some(true) => {}
            Some(false) => {
                verdict = Verdict::Violated;
                findings.push(format!("key {key}: its {} operations have no legal order", ops.len()));
            }
            None => {
                verdict = verdict.max(Verdict::Undecided);
                findings.push(format!("key {key}: undecided after {steps_max} steps of search"));
            }
        }
    }
    if lost > 0 {
        verdict = Verdict::Violated;
        findings.push(format!("{lost} acknowledged writes are missing at the end"));
    }
    findings.truncate(TOLD_MAX);
    Judgement { verdict, operations: entries.len(), keys: by_key.len(), searched, lost, findings }
}

/// A read of any kind that shows what nobody wrote, or what was written only after it.
fn unwritten(key: &str, entries: &[&Entry]) -> Option<String> {
    let writes: HashMap<&str, u64> = entries
        .iter()
        .filter(|entry| entry.outcome != Outcome::Refused && entry.outcome != Outcome::Conflict)
        .filter_map(|entry| Some((entry.argument.as_deref()?, entry.start)))
        .collect();
    entries.iter().find_map(|entry| {
        if !matches!(entry.operation, Kind::Get | Kind::GetStale) || entry.outcome != Outcome::Ok {
            return None;
        }
        let read = entry.value.as_deref()?;
        match writes.get(read) {
            None => Some(format!("key {key}: process {} read {read}, which nobody wrote", entry.process)),
            Some(&start) if entry.end.is_some_and(|end| end < start) => {
                Some(format!("key {key}: process {} read {read} before it was written", entry.process))
            }
            Some(_) => None,
        }
    })
}

/// What an entry means for the register; nothing where it proves nothing.
fn op(entry: &Entry, values: &mut Values) -> Option<Op> {
    let effect = match (entry.operation, entry.outcome) {
        (_, Outcome::Refused) | (Kind::GetStale, _) | (Kind::Get, Outcome::Unknown | Outcome::Conflict) => {
            return None;
        }
        (Kind::Get, Outcome::Ok) => Effect::Read(values.of(entry.value.as_deref())),
        (Kind::Put | Kind::Delete, Outcome::Conflict) => return None,
        (Kind::Put, _) => Effect::Write(values.of(entry.argument.as_deref())),
        (Kind::Delete, _) => Effect::Write(values.of(None)),
        (Kind::Cas, outcome) => {
            let expected = values.of(entry.expected.as_deref());
            let new = values.of(entry.argument.as_deref());
            match outcome {
                Outcome::Ok => Effect::Swapped { expected, new },
                Outcome::Conflict => Effect::Kept { expected },
                _ => Effect::MaySwap { expected, new },
            }
        }
    };
    let end = if entry.outcome == Outcome::Unknown { u64::MAX } else { entry.end.unwrap_or(u64::MAX) };
    Some(Op { start: entry.start, end, revision: entry.revision, effect })
}
