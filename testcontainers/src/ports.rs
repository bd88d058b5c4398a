//! Free ports on loopback, chosen so that a server can be started again on the one it had.
//!
//! Ports come from below the range that the kernel hands to outgoing connections: else, while a killed
//! server is down, one of its own clients could be given its port. A port is not handed out twice by one
//! process; two processes may still choose the same one, so a start that finds it taken tries another.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Attempts before giving up; each looks at one port.
const ATTEMPTS: u64 = 512;

static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(|| Mutex::new(HashSet::new()));

/// A port that nobody listens on now, given back when dropped.
#[derive(Debug)]
pub struct Port(u16);

impl Port {
    /// As it stands in an address.
    pub fn number(&self) -> u16 {
        self.0
    }

    /// Any free one.
    ///
    /// # Errors
    /// When none was found among some hundred that were looked at.
    pub fn free() -> std::io::Result<Self> {
        let range = candidates();
        let span = u64::from(range.end - range.start);
        let random = RandomState::new();
        for attempt in 0..ATTEMPTS {
            let offset = u16::try_from(random.hash_one(attempt) % span).unwrap_or_default();
            if let Some(port) = Self::claim(range.start + offset) {
                return Ok(port);
            }
        }
        Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            format!("no free port on 127.0.0.1 between {} and {}", range.start, range.end),
        ))
    }

    /// This one, if nobody has it.
    pub(crate) fn claim(number: u16) -> Option<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.contains(&number) && is_free(number) {
            taken.insert(number);
            return Some(Self(number));
        }
        None
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Whether a listener on every address can have it, which a server in a container may ask for.
pub(crate) fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
}

fn candidates() -> Range<u16> {
    let lowest_outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32768);
    if lowest_outgoing >= 12_000 { 10_000..lowest_outgoing } else { 20_000..60_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_given_back() {
        let port = Port::free().unwrap();
        assert!(Port::claim(port.number()).is_none());
        let number = port.number();
        drop(port);
        assert!(Port::claim(number).is_some());
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(Port::claim(listener.local_addr().unwrap().port()).is_none());
    }
}
