//! Reads HTTP/1.1 answers off a connection: status, the few headers that matter, and a body of stated length.

use std::io;

/// The most bytes of one answer.
const MAX_BYTES: usize = 1 << 20;

/// One whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response<'b> {
    pub(super) status: u16,
    /// The server says when to come back, which it does only if it certainly did not take the request.
    pub(super) refused: bool,
    /// The server ends the connection after this answer.
    pub(super) close: bool,
    pub(super) body: &'b [u8],
    /// Bytes that it took up.
    pub(super) length: usize,
}

/// The answer at the front of `bytes`; `None` while it is not whole.
pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Response<'_>>> {
    let malformed = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > MAX_BYTES { Err(malformed("a head without an end")) } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix(b"HTTP/1.1 "))
        .and_then(|line| std::str::from_utf8(line.get(..3)?).ok()?.parse().ok())
        .ok_or_else(|| malformed("no status line"))?;
    let (mut length, mut close, mut refused) = (None, false, false);
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(malformed("a header line without a colon"));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<usize>().ok());
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"retry-after") {
            refused = true;
        }
    }
    let length = length.ok_or_else(|| malformed("an answer of unstated length"))?;
    if length > MAX_BYTES {
        return Err(malformed("an answer of more than a mebibyte"));
    }
    let start = end + 4;
    Ok(bytes.get(start..start + length).map(|body| Response {
        status,
        refused,
        close,
        body,
        length: start + length,
    }))
}

/// The value of `messageId`, a UUID.
pub(super) fn message_id(body: &[u8]) -> Option<u128> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted<'b> {
        message_id: &'b str,
    }
    let accepted: Accepted<'_> = serde_json::from_slice(body).ok()?;
    id_of(accepted.message_id)
}

/// A UUID in its usual form.
pub(super) fn id_of(text: &str) -> Option<u128> {
    uuid::Uuid::try_parse(text).ok().map(|id| id.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole_and_what_follows_is_left() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nretry-after: 1\r\n\
            connection: close\r\n\r\nfull\nHTTP/1.1 200 OK\r\n";
        for cut in 0..text.len() - 17 {
            assert_eq!(parse(&text[..cut]).unwrap(), None, "{cut}");
        }
        let response = parse(text).unwrap().unwrap();
        assert_eq!((response.status, response.body), (503, &b"full\n"[..]));
        assert!(response.refused && response.close);
        assert_eq!(response.length, text.len() - 17);
        for wrong in
            ["SMTP 220 hello\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nnothing\r\n\r\n"]
        {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_id_of_an_accepted_answer_is_read() {
        let body = br#"{"messageId":"0b5f6d0e-7c1e-4d59-9a53-2f1c8e1f7a10","status":"accepted"}"#;
        assert_eq!(message_id(body), Some(0x0b5f_6d0e_7c1e_4d59_9a53_2f1c_8e1f_7a10));
        assert_eq!(message_id(b"{}"), None);
    }
}
