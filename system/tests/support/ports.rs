//! Ports for processes that must be told theirs before they start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems give to outgoing connections, one of which could take a port between this
/// look at it and the start of the process that is to have it.
const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;

/// A port of the loopback interface on which nothing listens, and which this program gives to nobody else
/// soon. Programs that run side by side look in different places.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .map(|port| u16::try_from(port).unwrap())
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("one of many ports is free")
}
