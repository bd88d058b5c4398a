//! Token buckets: one for all requests, one per client.
//!
//! Plain state, the caller brings the time. Bound: [`MAX_CLIENTS`] buckets; when they are used up, full ones
//! (clients that were idle long enough to have their whole burst back) are forgotten, and if none is full,
//! newcomers share one bucket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients remembered at once.
pub const MAX_CLIENTS: usize = 10_000;

/// How many requests are let through; zero means without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateLimitConfig {
    /// Requests a second of all clients together.
    pub total_per_s: f64,
    /// Requests a second of each client.
    pub client_per_s: f64,
    /// How many seconds' worth may come at once.
    pub burst_s: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn level(&self, rate: f64, size: f64, now: Instant) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * rate).min(size)
    }
}

/// Both limits with their state.
#[derive(Debug)]
pub struct RateLimiter {
    config: RateLimitConfig,
    total: Bucket,
    clients: HashMap<IpAddr, Bucket>,
    newcomers: Bucket,
    swept: Instant,
}

impl RateLimiter {
    /// Full buckets.
    pub fn new(config: RateLimitConfig, now: Instant) -> Self {
        let full = |rate: f64| Bucket { tokens: size(rate, config.burst_s), at: now };
        Self {
            config,
            total: full(config.total_per_s),
            clients: HashMap::new(),
            newcomers: full(config.client_per_s),
            swept: now,
        }
    }

    /// Whether there is any limit at all.
    pub fn is_limiting(&self) -> bool {
        self.config.total_per_s > 0.0 || self.config.client_per_s > 0.0
    }

    /// Takes one token of each bucket, or none.
    ///
    /// # Errors
    /// How long until there would be one.
    pub fn admit(&mut self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let RateLimitConfig { total_per_s, client_per_s, burst_s } = self.config;
        if total_per_s > 0.0 {
            check(&self.total, total_per_s, burst_s, now)?;
        }
        if client_per_s > 0.0 {
            let bucket = self.bucket(client, now);
            check(bucket, client_per_s, burst_s, now)?;
            take(bucket, client_per_s, burst_s, now);
        }
        if total_per_s > 0.0 {
            take(&mut self.total, total_per_s, burst_s, now);
        }
        Ok(())
    }

    fn bucket(&mut self, client: IpAddr, now: Instant) -> &mut Bucket {
        let RateLimitConfig { client_per_s, burst_s, .. } = self.config;
        let full = size(client_per_s, burst_s);
        let known = self.clients.contains_key(&client);
        // A sweep reads the whole table, so at most one a second.
        if !known && self.clients.len() >= MAX_CLIENTS && now - self.swept >= Duration::from_secs(1) {
            self.clients.retain(|_, bucket| bucket.level(client_per_s, full, now) < full);
            self.swept = now;
        }
        if !known && self.clients.len() >= MAX_CLIENTS {
            return &mut self.newcomers;
        }
        self.clients.entry(client).or_insert(Bucket { tokens: full, at: now })
    }
}

/// At least one token must fit, or nothing would ever pass.
fn size(rate: f64, burst_s: f64) -> f64 {
    (rate * burst_s).max(1.0)
}

fn check(bucket: &Bucket, rate: f64, burst_s: f64, now: Instant) -> Result<(), Duration> {
    let level = bucket.level(rate, size(rate, burst_s), now);
    if level >= 1.0 { Ok(()) } else { Err(Duration::from_secs_f64(((1.0 - level) / rate).min(3_600.0))) }
}

fn take(bucket: &mut Bucket, rate: f64, burst_s: f64, now: Instant) {
    bucket.tokens = bucket.level(rate, size(rate, burst_s), now) - 1.0;
    bucket.at = now;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(index: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(index))
    }

    #[test]
    fn one_client_at_its_limit_leaves_others_alone() {
        let now = Instant::now();
        let config = RateLimitConfig { total_per_s: 0.0, client_per_s: 10.0, burst_s: 1.0 };
        let mut limiter = RateLimiter::new(config, now);
        let passed = (0..100).filter(|_| limiter.admit(client(1), now).is_ok()).count();
        assert_eq!(passed, 10);
        assert_eq!(limiter.admit(client(1), now), Err(Duration::from_millis(100)));
        assert_eq!(limiter.admit(client(2), now), Ok(()));
        assert_eq!(limiter.admit(client(1), now + Duration::from_millis(101)), Ok(()));
    }

    #[test]
    fn the_table_of_clients_is_bounded_and_forgets_the_idle() {
        let now = Instant::now();
        let config = RateLimitConfig { total_per_s: 0.0, client_per_s: 1.0, burst_s: 1.0 };
        let mut limiter = RateLimiter::new(config, now);
        for index in 0..u32::try_from(MAX_CLIENTS).unwrap() + 100 {
            let _ = limiter.admit(client(index), now);
        }
        assert_eq!(limiter.clients.len(), MAX_CLIENTS);
        assert!(limiter.admit(client(u32::MAX), now).is_err(), "newcomers share one bucket");
        assert_eq!(limiter.admit(client(u32::MAX), now + Duration::from_secs(2)), Ok(()));
        assert_eq!(limiter.clients.len(), 1);
    }

    proptest! {
        // Over any arrivals, no more pass than the burst plus the rate allows.
        #[test]
        fn never_more_than_rate_and_burst(gaps_ms in proptest::collection::vec(0u64..200, 1..200)) {
            let start = Instant::now();
            let config = RateLimitConfig { total_per_s: 20.0, client_per_s: 0.0, burst_s: 0.5 };
            let mut limiter = RateLimiter::new(config, start);
            let mut now = start;
            let mut passed = 0.0;
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                if limiter.admit(client(1), now).is_ok() {
                    passed += 1.0;
                }
            }
            prop_assert!(passed <= 10.0 + 20.0 * (now - start).as_secs_f64() + 1e-6);
        }
    }
}
