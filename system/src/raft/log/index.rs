//! What the log holds, in memory: the marks, every entry's id, the newest entries themselves and where the
//! older ones lie. A plain data structure: it is changed by the store as calls arrive, and by recovery as
//! records are replayed, with the same functions.

use std::collections::VecDeque;

use super::record::{Place, detached};
use crate::raft::types::{Entry, LogId, Vote};

/// The single values that the stream carries beside entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

#[derive(Debug)]
struct Slot {
    log_id: LogId,
    bytes: u32,
    cached: Option<Entry>,
    place: Option<Place>,
}

/// Where an entry can be had.
#[derive(Debug)]
pub(super) enum Stored {
    Cached(Entry),
    OnDisk(Place),
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) marks: Marks,
    slots: VecDeque<Slot>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    /// Slots before this position are not cached.
    cached_from: usize,
}

impl Index {
    pub(super) fn new(cache_bytes_max: usize) -> Self {
        Self {
            marks: Marks::default(),
            slots: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
            cached_from: 0,
        }
    }

    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.marks.purged)
    }

    /// Index that the next entry must have, if the log is not empty.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.slots.back().map(|slot| slot.log_id.index + 1)
    }

    /// Index of the oldest entry kept.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.log_id.index)
    }

    fn position(&self, index: u64) -> Option<usize> {
        let first = self.slots.front()?.log_id.index;
        let position = usize::try_from(index.checked_sub(first)?).ok()?;
        (position < self.slots.len()).then_some(position)
    }

    /// Adds an entry that is queued but not written.
    pub(super) fn push(&mut self, entry: Entry, bytes: u32) {
        self.cached_bytes += bytes as usize;
        // A command may be a slice of a network frame; that frame must not live as long as the cache.
        let entry = detached(entry);
        self.slots.push_back(Slot { log_id: entry.log_id, bytes, cached: Some(entry), place: None });
    }

    /// Adds an entry found on disk.
    pub(super) fn push_on_disk(&mut self, log_id: LogId, place: Place) {
        self.slots.push_back(Slot { log_id, bytes: place.bytes, cached: None, place: Some(place) });
        self.cached_from = self.slots.len();
    }

    /// Notes where a queued entry was written; it may have been truncated or replaced meanwhile.
    pub(super) fn placed(&mut self, log_id: LogId, place: Place) {
        if let Some(position) = self.position(log_id.index)
            && let Some(slot) = self.slots.get_mut(position)
            && slot.log_id == log_id
        {
            slot.place = Some(place);
        }
    }

    /// Drops cached entries, oldest first, that are over the limit and can be read back.
    pub(super) fn shrink(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let Some(slot) = self.slots.get_mut(self.cached_from) else { return };
            if slot.place.is_none() {
                return;
            }
            if slot.cached.take().is_some() {
                self.cached_bytes -= slot.bytes as usize;
            }
            self.cached_from += 1;
        }
    }

    fn forget(&mut self, slot: &Slot) {
        if slot.cached.is_some() {
            self.cached_bytes -= slot.bytes as usize;
        }
    }

    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        while let Some(slot) = self.slots.pop_back_if(|slot| last.is_none_or(|last| slot.log_id.index > last))
        {
            self.forget(&slot);
        }
        self.cached_from = self.cached_from.min(self.slots.len());
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.log_id.index <= upto.index) {
            self.forget(&slot);
            self.cached_from = self.cached_from.saturating_sub(1);
        }
        self.marks.purged = self.marks.purged.max(Some(upto));
    }

    /// Entries with `from <= index < to`, as many as fit `limit_bytes` but at least one.
    pub(super) fn range(&self, from: u64, to: u64, limit_bytes: usize) -> Vec<Stored> {
        let Some(first) = self.first_index() else { return Vec::new() };
        let Some(start) = self.position(from.max(first)) else { return Vec::new() };
        let mut bytes = 0usize;
        let mut found = Vec::new();
        for slot in self.slots.iter().skip(start).take_while(|slot| slot.log_id.index < to) {
            bytes = bytes.saturating_add(slot.bytes as usize);
            if bytes > limit_bytes && !found.is_empty() {
                break;
            }
            match (&slot.cached, &slot.place) {
                (Some(entry), _) => found.push(Stored::Cached(entry.clone())),
                (None, Some(place)) => found.push(Stored::OnDisk(place.clone())),
                (None, None) => unreachable!("an entry is cached until it is written"),
            }
        }
        found
    }
}
