//! W3C trace context (level 1): reads, continues and writes `traceparent`.
//!
//! A header that breaks the format is treated as absent and a new trace begins, as the standard asks.

use std::fmt;

/// Name of the HTTP header, the gRPC metadata key and the broker header.
pub const TRACEPARENT: &str = "traceparent";

/// Which trace a request belongs to and which span is its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: u128,
    /// 8 bytes, not zero.
    pub span_id: u64,
    /// Whether the caller recorded this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Length of the written form.
    pub const TEXT_LEN: usize = 55;

    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; later versions may append fields.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let well_formed = text.len() >= Self::TEXT_LEN
            && text[2] == b'-'
            && text[35] == b'-'
            && text[52] == b'-'
            && (text.len() == Self::TEXT_LEN || (&text[..2] != b"00" && text[55] == b'-'));
        if !well_formed || &text[..2] == b"ff" {
            return None;
        }
        hex(&text[..2])?;
        let trace_id = hex(&text[3..35])?;
        let span_id = u64::try_from(hex(&text[36..52])?).ok()?;
        let sampled = hex(&text[53..55])? & 1 == 1;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }

    /// A new trace.
    pub fn root(sampled: bool) -> Self {
        let trace_id = uuid::Uuid::new_v4().as_u128();
        Self { trace_id, span_id: new_span_id(), sampled }
    }

    /// The same trace with a new span.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: new_span_id(), ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

fn new_span_id() -> u64 {
    // A random UUID has fixed bits only in the middle, and its upper half cannot be zero (version 4).
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// Lower-case hexadecimal only, as the standard has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_standard_is_read_and_continued() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text.as_bytes()).unwrap();
        assert_eq!(context.to_string(), text);
        let child = context.child();
        assert_eq!(child.trace_id, context.trace_id);
        assert_ne!(child.span_id, context.span_id);
        assert!(child.sampled);
    }

    #[test]
    fn malformed_headers_count_as_absent() {
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
        let future = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::parse(future.as_bytes()).is_some());
    }

    proptest! {
        // What is written is read back as it was, and no input panics.
        #[test]
        fn written_contexts_read_back(trace_id in 1u128.., span_id in 1u64.., sampled: bool) {
            let context = TraceContext { trace_id, span_id, sampled };
            prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
