//! Who may pass: bearer token and rate limit.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use super::Inner;
use crate::pipeline::http::respond::{self, Answer};

impl Inner {
    /// Refuses requests without the token, if one is configured.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let Some(wanted) = &self.config.bearer_token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let token = match given.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => &[],
        };
        if same(token, wanted.as_bytes()) {
            return Ok(());
        }
        self.counters.unauthorized.increment();
        let mut refusal = respond::plain(StatusCode::UNAUTHORIZED, "Unauthorized");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal)
    }

    /// Refuses requests over the rate, if one is configured.
    pub(super) fn limit(&self, client: IpAddr) -> Result<(), Answer> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.lock().admit(client, std::time::Instant::now()).map_err(|wait| {
            self.counters.rate_limited.increment();
            respond::retry_after(respond::plain(StatusCode::TOO_MANY_REQUESTS, "Too many requests"), wait)
        })
    }
}

/// Takes the same time wherever the first difference lies.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len()
        && given.iter().zip(wanted).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_whole_token_passes() {
        assert!(same(b"secret", b"secret"));
        for other in [&b""[..], b"secre", b"secrets", b"Secret"] {
            assert!(!same(other, b"secret"));
        }
    }
}
