//! Leases, and locks held under them.
//!
//! A lease lives until its time is over by the leader's clock, which travels in every command; a lock lives
//! as long as its lease. Every taking of a lock draws a fencing token greater than any before, also after
//! restarts and snapshots. Bounds: [`MAX_LEASES`] leases, [`MAX_LOCKS`] locks.
//!
//! What a lock does not promise: that its holder is alone at work. A holder that is paused or cut off does
//! not notice that its lease has ended; only a resource that refuses a token smaller than the last it saw
//! is safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::{
    command::{MAX_LEASE, MIN_LEASE, Outcome, Refusal},
    event::LeaseEnd,
    name::check_key,
};

/// The most leases at a time.
pub const MAX_LEASES: usize = 16_384;

/// The most locks at a time.
pub const MAX_LOCKS: usize = 65_536;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it, for people.
    pub owner: String,
    /// How long it lives without being kept.
    pub ttl_ms: u64,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The locks held under it.
    pub locks: BTreeSet<String>,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Under which lease.
    pub lease: String,
    /// Its fencing token.
    pub token: u64,
}

/// All leases and locks.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leases {
    leases: BTreeMap<String, Lease>,
    locks: BTreeMap<String, Lock>,
    last_token: u64,
    /// No lease ends before this; spares a look at each of them for every command.
    earliest: Option<Timestamp>,
}

fn after(now: Timestamp, ttl_ms: u64) -> Timestamp {
    now.saturating_add(Duration::from_millis(ttl_ms)).unwrap_or(Timestamp::MAX)
}

impl Leases {
    /// One lease.
    #[must_use]
    pub fn lease(&self, id: &str) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// One lock, if it is held.
    #[must_use]
    pub fn lock(&self, name: &str) -> Option<&Lock> {
        self.locks.get(name)
    }

    /// All locks that are held.
    pub fn locks(&self) -> impl Iterator<Item = (&str, &Lock)> {
        self.locks.iter().map(|(name, lock)| (name.as_str(), lock))
    }

    /// When the next lease may be due; whoever leads proposes to expire it then.
    #[must_use]
    pub fn earliest_expiry(&self) -> Option<Timestamp> {
        self.earliest
    }

    /// Ends the leases whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<LeaseEnd> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let due: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires_at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        let ended = due.into_iter().filter_map(|id| self.end(id, now, true)).collect();
        self.earliest = self.leases.values().map(|lease| lease.expires_at).min();
        ended
    }

    /// Lets every lease live for its full time from now: another leader's clock decides from here on.
    pub(super) fn restart_clock(&mut self, now: Timestamp) {
        for lease in self.leases.values_mut() {
            lease.expires_at = lease.expires_at.max(after(now, lease.ttl_ms));
        }
        self.earliest = self.leases.values().map(|lease| lease.expires_at).min();
    }

    pub(super) fn grant(
        &mut self,
        id: &str,
        owner: &str,
        ttl_ms: u64,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        for (what, name) in [("lease id", id), ("lease owner", owner)] {
            check_key(what, name).map_err(|error| Refusal::Invalid(error.to_string()))?;
        }
        if !(MIN_LEASE..=MAX_LEASE).contains(&Duration::from_millis(ttl_ms)) {
            let reason = format!("ttl of {ttl_ms} ms is outside {MIN_LEASE:?} to {MAX_LEASE:?}");
            return Err(Refusal::Invalid(reason));
        }
        match self.leases.get(id) {
            Some(lease) if lease.owner != owner => {
                return Err(Refusal::LeaseTaken { lease: id.to_owned(), owner: lease.owner.clone() });
            }
            None if self.leases.len() >= MAX_LEASES => {
                return Err(Refusal::TooMany { what: "leases".to_owned(), limit: MAX_LEASES });
            }
            _ => {}
        }
        let expires_at = after(now, ttl_ms);
        let fresh = || Lease { owner: owner.to_owned(), ttl_ms, expires_at, locks: BTreeSet::new() };
        let lease = self.leases.entry(id.to_owned()).or_insert_with(fresh);
        lease.ttl_ms = ttl_ms;
        lease.expires_at = expires_at;
        self.earliest = Some(self.earliest.map_or(expires_at, |earliest| earliest.min(expires_at)));
        Ok(Outcome::Lease { expires_at })
    }

    pub(super) fn keep(&mut self, id: &str, now: Timestamp) -> Result<Outcome, Refusal> {
        let lease = self.leases.get_mut(id).ok_or_else(|| Refusal::LeaseUnknown(id.to_owned()))?;
        lease.expires_at = after(now, lease.ttl_ms);
        Ok(Outcome::Lease { expires_at: lease.expires_at })
    }

    /// Ends a lease; one that has ended is fine.
    pub(super) fn revoke(&mut self, id: &str, now: Timestamp) -> Option<LeaseEnd> {
        self.end(id.to_owned(), now, false)
    }

    pub(super) fn acquire(&mut self, name: &str, lease: &str) -> Result<Outcome, Refusal> {
        check_key("lock name", name).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if !self.leases.contains_key(lease) {
            return Err(Refusal::LeaseUnknown(lease.to_owned()));
        }
        if let Some(held) = self.locks.get(name) {
            if held.lease == lease {
                return Ok(Outcome::Lock { token: held.token });
            }
            let owner = self.leases.get(&held.lease).map_or_else(String::new, |lease| lease.owner.clone());
            return Err(Refusal::LockHeld { lock: name.to_owned(), owner });
        }
        if self.locks.len() >= MAX_LOCKS {
            return Err(Refusal::TooMany { what: "locks".to_owned(), limit: MAX_LOCKS });
        }
        self.last_token += 1;
        let token = self.last_token;
        self.locks.insert(name.to_owned(), Lock { lease: lease.to_owned(), token });
        if let Some(lease) = self.leases.get_mut(lease) {
            lease.locks.insert(name.to_owned());
        }
        Ok(Outcome::Lock { token })
    }

    pub(super) fn release(&mut self, name: &str, lease: &str) -> Result<Outcome, Refusal> {
        if self.locks.get(name).is_none_or(|held| held.lease != lease) {
            return Err(Refusal::LockNotHeld(name.to_owned()));
        }
        self.locks.remove(name);
        if let Some(lease) = self.leases.get_mut(lease) {
            lease.locks.remove(name);
        }
        Ok(Outcome::Done)
    }

    fn end(&mut self, id: String, now: Timestamp, expired: bool) -> Option<LeaseEnd> {
        let lease = self.leases.remove(&id)?;
        for lock in &lease.locks {
            self.locks.remove(lock);
        }
        let locks = lease.locks.into_iter().collect();
        Some(LeaseEnd { lease: id, owner: lease.owner, locks, expired, timestamp: now })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::Leases;
    use crate::cluster::command::{Outcome, Refusal};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn token(outcome: Result<Outcome, Refusal>) -> u64 {
        match outcome.unwrap() {
            Outcome::Lock { token } => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lock_has_one_holder_and_a_growing_token() {
        let mut leases = Leases::default();
        leases.grant("a", "alice", 1_000, at(0)).unwrap();
        leases.grant("b", "bob", 1_000, at(0)).unwrap();
        let first = token(leases.acquire("l", "a"));
        assert_eq!(token(leases.acquire("l", "a")), first, "asking twice is asking once");
        let held = Refusal::LockHeld { lock: "l".to_owned(), owner: "alice".to_owned() };
        assert_eq!(leases.acquire("l", "b"), Err(held));
        assert_eq!(leases.release("l", "b"), Err(Refusal::LockNotHeld("l".to_owned())));
        leases.release("l", "a").unwrap();
        assert!(token(leases.acquire("l", "b")) > first);
    }

    #[test]
    fn a_lease_that_is_not_kept_frees_its_locks() {
        let mut leases = Leases::default();
        leases.grant("a", "alice", 1_000, at(0)).unwrap();
        leases.grant("b", "bob", 5_000, at(0)).unwrap();
        let first = token(leases.acquire("l", "a"));
        leases.keep("a", at(900)).unwrap();
        assert_eq!(leases.expire(at(1_800)), []);
        let ended = leases.expire(at(1_900));
        assert_eq!(
            (ended[0].lease.as_str(), &ended[0].locks[..], ended[0].expired),
            ("a", &["l".to_owned()][..], true)
        );
        assert_eq!(leases.keep("a", at(1_901)), Err(Refusal::LeaseUnknown("a".to_owned())));
        assert!(token(leases.acquire("l", "b")) > first);
        assert_eq!(leases.expire(at(5_000)).len(), 1);
        assert_eq!(leases.earliest_expiry(), None);
    }

    #[test]
    fn another_leaders_clock_ends_no_lease_early() {
        let mut leases = Leases::default();
        leases.grant("a", "alice", 1_000, at(0)).unwrap();
        leases.restart_clock(at(60_000));
        assert_eq!(leases.expire(at(60_999)), []);
        assert_eq!(leases.expire(at(61_000)).len(), 1);
    }

    #[test]
    fn a_lease_has_bounds() {
        let mut leases = Leases::default();
        assert!(leases.grant("a", "alice", 99, at(0)).is_err());
        assert!(leases.grant("a", "alice", u64::MAX, at(0)).is_err());
        assert!(leases.grant("../a", "alice", 1_000, at(0)).is_err());
        leases.grant("a", "alice", 1_000, at(0)).unwrap();
        assert!(matches!(leases.grant("a", "bob", 1_000, at(0)), Err(Refusal::LeaseTaken { .. })));
        leases.grant("a", "alice", 2_000, at(0)).unwrap();
        assert_eq!(leases.lease("a").unwrap().expires_at, at(0) + Duration::from_secs(2));
    }

    #[test]
    fn revoking_frees_the_locks_and_may_be_repeated() {
        let mut leases = Leases::default();
        leases.grant("a", "alice", 1_000, at(0)).unwrap();
        token(leases.acquire("l", "a"));
        assert_eq!(leases.revoke("a", at(1)).unwrap().locks, ["l"]);
        assert_eq!(leases.revoke("a", at(1)), None);
        assert!(leases.lock("l").is_none());
    }
}
