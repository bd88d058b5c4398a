//! What a cluster made of nodes that died, in a sentence.

use crate::{
    figures::significant,
    record::{Run, Subject},
    statistics::{DeathFigure, deaths, over_deaths, plural},
};

/// Medians over all deaths of a subject; nothing where nobody died.
pub(super) fn sentence(run: &Run, subject: &Subject) -> Option<String> {
    let died = deaths(subject).count();
    if died == 0 {
        return None;
    }
    let figure = |figure| over_deaths(run, subject, figure).map(|interval| significant(interval.median, 3));
    let of = plural(died, "death");
    let (Some(detected), Some(agreed)) = (figure(DeathFigure::Detected), figure(DeathFigure::Agreed)) else {
        return Some(format!("{}: in {of} the others did not agree before the node was back.", subject.name));
    };
    // Whole, or a half between two.
    let moved = over_deaths(run, subject, DeathFigure::Moved).map_or(0.0, |interval| interval.median);
    let undecided = deaths(subject).filter(|(_, death)| death.agreed_s.is_none()).count();
    let mut said = format!(
        "{}: a death was known after {detected} s and agreed on after {agreed} s, {moved} partitions moved \
         (medians of {of})",
        subject.name
    );
    if undecided > 0 {
        said.push_str(&format!("; in {undecided} the others did not agree before the node was back"));
    }
    said.push('.');
    Some(said)
}
