//! Colour means subject: each keeps its place in the palette everywhere.
//!
//! The well-known queues have fixed places, others take the next free ones in the order of the record. The places
//! stay apart for colour-blind readers and have AA contrast in both schemes (`render/page.css`).

use crate::record::Run;

/// Places in the palette.
pub(crate) const PLACES: u8 = 10;
/// Places kept for the well-known queues.
const KNOWN: [(u8, &str); 4] = [(0, "memory"), (1, "nats"), (2, "kafka"), (3, "composite")];
/// The first place for others.
const FREE: u8 = 4;

/// Which subject has which place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Palette {
    places: Vec<(String, u8)>,
}

impl Palette {
    /// The places of all subjects of some runs, shared between them.
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut palette = Self::default();
        for name in runs.into_iter().flat_map(|run| &run.subjects).map(|subject| &subject.name) {
            if !palette.places.iter().any(|(known, _)| known == name) {
                let place = palette.free_place(name);
                palette.places.push((name.clone(), place));
            }
        }
        palette
    }

    fn free_place(&self, name: &str) -> u8 {
        if let Some((place, _)) = KNOWN.iter().find(|(_, known)| *known == name) {
            return *place;
        }
        let taken = |place: u8| self.places.iter().any(|(_, other)| *other == place);
        // With more subjects than colours the last ones share the last colour; every mark has its name beside it.
        (FREE..PLACES).chain(0..FREE).find(|place| !taken(*place)).unwrap_or(PLACES - 1)
    }

    /// The place of a subject.
    pub(crate) fn place(&self, name: &str) -> u8 {
        self.places.iter().find(|(known, _)| known == name).map_or(PLACES - 1, |(_, place)| *place)
    }
}
