//! Reads the server's answer to a JetStream publish. The usual answer is recognised by its first and last
//! bytes, without parsing and without allocating; everything else is judged by error code, never by text.

use async_nats::StatusCode;
use serde::Deserialize;

use crate::queue::RejectReason;

/// What the server said to one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Stored.
    Stored,
    /// A message of this id was there already.
    Duplicate,
    /// Not stored, and it would be no use to send it again.
    Rejected(RejectReason),
    /// Not stored because nobody could store it just now (start, election): worth another try.
    Unavailable,
    /// Not an answer that we understand.
    Garbled,
}

const PLAIN_START: &[u8] = b"{\"stream\":";

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
    stream: Option<String>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    code: u64,
}

impl Answer {
    /// Judges one answer.
    pub(super) fn read(payload: &[u8], status: Option<StatusCode>) -> Self {
        // `{"stream":"S","seq":17}`: a sequence number last means neither duplicate nor error.
        if payload.starts_with(PLAIN_START)
            && let [.., digit, b'}'] = payload
            && digit.is_ascii_digit()
        {
            return Self::Stored;
        }
        Self::read_rare(payload, status)
    }

    #[cold]
    fn read_rare(payload: &[u8], status: Option<StatusCode>) -> Self {
        if status == Some(StatusCode::NO_RESPONDERS) {
            return Self::Unavailable;
        }
        match serde_json::from_slice::<Ack>(payload) {
            Ok(Ack { error: Some(error), .. }) => Self::of_error(&error),
            Ok(Ack { duplicate: true, stream: Some(_), .. }) => Self::Duplicate,
            Ok(Ack { stream: Some(_), .. }) => Self::Stored,
            Ok(_) | Err(_) => Self::Garbled,
        }
    }

    /// Error codes as in the server's `errors.json`.
    fn of_error(error: &ApiError) -> Self {
        match error.err_code {
            // Limits of account and server; store failed, which is what a full stream that discards new
            // messages answers; its queue of messages not yet stored is full.
            10002 | 10023 | 10028 | 10047 | 10077 | 10122 | 10167 => Self::Rejected(RejectReason::Full),
            // Payload or headers over the stream's limit.
            10054 | 10097 => Self::Rejected(RejectReason::TooLarge),
            // Cluster without a leader or not ready; the same id is just being stored; stream offline.
            10004..=10009 | 10118 | 10158 => Self::Unavailable,
            0 if error.code == 503 => Self::Unavailable,
            _ => Self::Rejected(RejectReason::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_answers_are_told_apart() {
        let read = |text: &str| Answer::read(text.as_bytes(), None);
        assert_eq!(read(r#"{"stream":"S","seq":17}"#), Answer::Stored);
        assert_eq!(read(r#"{"stream":"S","seq":17,"domain":"hub"}"#), Answer::Stored);
        assert_eq!(read(r#"{"stream":"S","seq":17,"duplicate":true}"#), Answer::Duplicate);
        assert_eq!(read(r#"{"stream":"S","seq":17,"domain":"hub","duplicate": true}"#), Answer::Duplicate);
    }

    #[test]
    fn errors_are_judged_by_code() {
        let error = |code: u32, err_code: u32| {
            let text = format!(
                r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"maximum messages exceeded"}},"stream":"S","seq":0}}"#
            );
            Answer::read(text.as_bytes(), None)
        };
        assert_eq!(error(503, 10077), Answer::Rejected(RejectReason::Full));
        assert_eq!(error(500, 10047), Answer::Rejected(RejectReason::Full));
        assert_eq!(error(400, 10054), Answer::Rejected(RejectReason::TooLarge));
        assert_eq!(error(503, 10008), Answer::Unavailable);
        assert_eq!(error(400, 10060), Answer::Rejected(RejectReason::Refused));
    }

    #[test]
    fn silence_of_responders_is_worth_a_retry_and_noise_is_not_an_answer() {
        assert_eq!(Answer::read(b"", Some(StatusCode::NO_RESPONDERS)), Answer::Unavailable);
        assert_eq!(Answer::read(b"", None), Answer::Garbled);
        assert_eq!(Answer::read(b"{\"stream\":", None), Answer::Garbled);
        assert_eq!(Answer::read(b"+OK", None), Answer::Garbled);
    }
}
