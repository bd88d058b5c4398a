//! Who may pass: bearer token and rate limit.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use super::Inner;
use crate::pipeline::http::respond::{self, Answer};

impl Inner {
    /// The refusal of a request without the token, if one is configured.
    pub(super) fn unauthorized(&self, headers: &HeaderMap) -> Option<Answer> {
        let wanted = self.config.bearer_token.as_ref()?;
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let token = match given.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token,
            _ => &[],
        };
        if same(token, wanted.as_bytes()) {
            return None;
        }
        self.counters.unauthorized.increment();
        let mut refusal = respond::plain(StatusCode::UNAUTHORIZED, "Unauthorized");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(refusal)
    }

    /// The refusal of a request over the rate, if one is configured.
    pub(super) fn over_rate(&self, client: IpAddr) -> Option<Answer> {
        let admitted = self.limiter.as_ref()?.lock().admit(client, std::time::Instant::now());
        let wait = admitted.err()?;
        self.counters.rate_limited.increment();
        let refusal = respond::plain(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        Some(respond::retry_after(refusal, wait))
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
