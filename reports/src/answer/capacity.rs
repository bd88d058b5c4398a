//! The answer of a search for the highest rate.

use super::{Answer, broken_promises, skipped};
use crate::{
    figures::rate,
    record::{Capacity, CapacityLimit, CapacitySearch, Run},
    statistics::and,
};

/// Who carries how much while the objective holds.
pub(super) fn answer(run: &Run, search: &CapacitySearch) -> Answer {
    let slo = slo_words(search);
    let mut found: Vec<(&Capacity, f64)> =
        search.subjects.iter().filter_map(|c| Some((c, c.highest_per_s?))).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let said: Vec<String> = found.iter().map(|(capacity, highest)| carries(capacity, *highest)).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    let none: Vec<&str> =
        search.subjects.iter().filter(|c| c.highest_per_s.is_none()).map(|c| c.subject.as_str()).collect();
    let mut sentences = vec![broken_promises(run)];
    if !said.is_empty() {
        sentences.push(format!("With {slo}, {}.", and(&said)));
    }
    if !none.is_empty() {
        let verb = if none.len() == 1 { "holds" } else { "hold" };
        sentences.push(format!("{} {verb} it at no rate that was tried.", and(&none)));
    }
    sentences.retain(|sentence| !sentence.is_empty());
    let headline =
        if search.subjects.is_empty() { "Nothing was measured.".to_owned() } else { sentences.join(" ") };
    let mut details: Vec<String> = Vec::new();
    if search.subjects.iter().any(|c| c.highest_per_s.is_some() && c.limited_by != CapacityLimit::Slo) {
        details.push(
            "Where it says \u{201c}at least\u{201d}, the objective still held at the highest rate that could be tried."
                .to_owned(),
        );
    }
    details.extend(skipped(run));
    Answer { headline, details }
}

/// The conditions as one would say them.
pub(crate) fn slo_words(search: &CapacitySearch) -> String {
    let words: Vec<String> = search
        .slo
        .iter()
        .map(|text| text.parse::<crate::gate::Slo>().map_or_else(|_| text.clone(), |slo| slo.words()))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    and(&words)
}

fn carries(capacity: &Capacity, highest: f64) -> String {
    let at_least = if capacity.limited_by == CapacityLimit::Slo { "" } else { "at least " };
    format!("{} carries {at_least}{} messages/s", capacity.subject, rate(highest))
}
