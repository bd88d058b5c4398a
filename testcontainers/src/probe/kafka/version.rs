//! Which release a Kafka cluster runs, as far as it says.
//!
//! A broker does not state its version to clients. It states the finalized `metadata.version` of its
//! cluster (ApiVersions, version 3), which is raised after every broker runs the release that brought it.
//! So this names the release whose format is in use, not a patch version. Asked over a plain connection
//! only; one frame is sent, and at most [`MAX_FRAME`] bytes are read.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the question may take.
const LIMIT: Duration = Duration::from_secs(3);
/// The largest answer that is read; a real one has some hundred bytes.
const MAX_FRAME: u32 = 64 * 1024;

const API_VERSIONS: u16 = 18;
const CORRELATION: u32 = 0x7162_7631;
const FINALIZED_FEATURES: u64 = 2;

/// The release in use, for instance `4.1 (metadata.version 27)`; none where it is not stated.
pub(crate) async fn ask(bootstrap: &str) -> Option<String> {
    let address = bootstrap.split(',').next()?.trim();
    let address = address.rsplit_once("://").map_or(address, |(_, rest)| rest);
    let frame = timeout(LIMIT, exchange(address)).await.ok()?.ok()?;
    let level = metadata_version(&frame)?;
    Some(match release(level) {
        Some(release) => format!("{release} (metadata.version {level})"),
        None => format!("metadata.version {level}"),
    })
}

async fn exchange(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request()).await?;
    let length = stream.read_u32().await?;
    if length > MAX_FRAME {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut frame = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut frame).await?;
    Ok(frame)
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(API_VERSIONS.to_be_bytes());
    body.extend(3_u16.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    // Client id: a string of two-byte length; then no tagged fields.
    body.extend([0, 10]);
    body.extend(b"queuebench");
    body.push(0);
    // Software name and version: compact strings, whose length is stored plus one; no tagged fields.
    body.push(11);
    body.extend(b"queuebench");
    body.push(2);
    body.extend(b"1");
    body.push(0);
    let length = u32::try_from(body.len()).unwrap_or_default();
    [length.to_be_bytes().to_vec(), body].concat()
}

/// The finalized level of `metadata.version` in an answer.
fn metadata_version(frame: &[u8]) -> Option<i16> {
    let mut reader = Reader(frame);
    let correlation = reader.bytes(4)?;
    let error = reader.i16()?;
    if correlation != CORRELATION.to_be_bytes() || error != 0 {
        return None;
    }
    for _ in 1..reader.varint()? {
        reader.bytes(6)?;
        reader.skip_tagged()?;
    }
    reader.bytes(4)?;
    for _ in 0..reader.varint()? {
        let tag = reader.varint()?;
        let size = usize::try_from(reader.varint()?).ok()?;
        let field = reader.bytes(size)?;
        if tag == FINALIZED_FEATURES {
            return level_of(field, b"metadata.version");
        }
    }
    None
}

fn level_of(features: &[u8], wanted: &[u8]) -> Option<i16> {
    let mut reader = Reader(features);
    for _ in 1..reader.varint()? {
        let length = usize::try_from(reader.varint()?.checked_sub(1)?).ok()?;
        let name = reader.bytes(length)?;
        let highest = reader.i16()?;
        reader.i16()?;
        reader.skip_tagged()?;
        if name == wanted {
            return Some(highest);
        }
    }
    None
}

/// The release that brought this level.
fn release(level: i16) -> Option<&'static str> {
    Some(match level {
        7 => "3.3",
        8 => "3.4",
        9..=11 => "3.5",
        12..=14 => "3.6",
        15..=19 => "3.7",
        20 => "3.8",
        21 => "3.9",
        22..=25 => "4.0",
        26..=27 => "4.1",
        28..=29 => "4.2",
        _ => return None,
    })
}

/// Reads a frame from its front; none at its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn i16(&mut self) -> Option<i16> {
        self.bytes(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip_tagged(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = usize::try_from(self.varint()?).ok()?;
            self.bytes(size)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut frame = CORRELATION.to_be_bytes().to_vec();
        frame.extend([0, 0]);
        // One API with no tagged fields, then the throttle time.
        frame.extend([2, 0, 18, 0, 0, 0, 4, 0]);
        frame.extend([0, 0, 0, 0]);
        let mut features = vec![2, 17];
        features.extend(b"metadata.version");
        features.extend([0, 27, 0, 27, 0]);
        // Two tagged fields: the epoch, which is skipped, and the features.
        frame.extend([2, 1, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        frame.extend([2, u8::try_from(features.len()).unwrap()]);
        frame.extend(features);
        frame
    }

    #[test]
    fn the_level_is_found_among_the_tagged_fields() {
        assert_eq!(metadata_version(&answer()), Some(27));
        assert_eq!(release(27), Some("4.1"));
    }

    #[test]
    fn no_truncated_answer_is_believed_or_panics() {
        let whole = answer();
        for length in 0..whole.len() {
            assert_eq!(metadata_version(&whole[..length]), None, "{length}");
        }
    }
}
