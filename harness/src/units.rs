//! Durations, sizes and rates as people write them: `5s`, `256B`, `10k/s`.
//!
//! Each is a newtype that parses in one place, prints what it parses, and says what would be right when it
//! cannot. Plain numbers are refused: a number without a unit is the commonest way to be wrong by a
//! thousand.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a quantity; the message says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {reason} (for instance {example})")]
pub struct UnitError {
    text: String,
    what: &'static str,
    reason: &'static str,
    example: &'static str,
}

/// A length of time, exact to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Messages per second; positive.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// A rate.
    ///
    /// # Panics
    /// When it is not positive and finite: a rate of zero is written by leaving the phase out.
    pub fn per_second(value: f64) -> Self {
        assert!(value > 0.0 && value.is_finite(), "a rate is positive and finite");
        Self(value)
    }

    /// Messages per second.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Splits `12.5ms` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim()))
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |reason| UnitError {
            text: text.to_owned(),
            what: "duration",
            reason,
            example: "\"500ms\", \"5s\", \"1m30s\"",
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(error("it is empty"));
        }
        let mut nanoseconds = 0.0_f64;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
                .ok_or_else(|| error("its unit is missing (ns, us, ms, s, m, h)"))?;
            let unit_end =
                rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |i| digits + i);
            let (number, unit) = split(&rest[..unit_end]).ok_or_else(|| error("it has no number"))?;
            let scale = match unit {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" | "min" => 60e9,
                "h" => 3_600e9,
                _ => return Err(error("its unit is none of ns, us, ms, s, m, h")),
            };
            nanoseconds += number * scale;
            rest = rest[unit_end..].trim_start();
        }
        // A century bounds every later sum in nanoseconds far below 2^63.
        if nanoseconds > 3.2e18 {
            return Err(error("it is longer than a century"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above, and digits carry no sign"
        )]
        let nanoseconds = nanoseconds.round() as u64;
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        match ns {
            0 => f.write_str("0s"),
            n if n.is_multiple_of(3_600_000_000_000) => write!(f, "{}h", n / 3_600_000_000_000),
            n if n.is_multiple_of(60_000_000_000) => write!(f, "{}m", n / 60_000_000_000),
            n if n.is_multiple_of(1_000_000_000) => write!(f, "{}s", n / 1_000_000_000),
            n if n.is_multiple_of(1_000_000) => write!(f, "{}ms", n / 1_000_000),
            n if n.is_multiple_of(1_000) => write!(f, "{}us", n / 1_000),
            n => write!(f, "{n}ns"),
        }
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |reason| UnitError {
            text: text.to_owned(),
            what: "size",
            reason,
            example: "\"256B\", \"4KiB\", \"1MiB\"",
        };
        let (number, unit) = split(text).ok_or_else(|| error("it has no number"))?;
        let scale = match unit {
            "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            "" => return Err(error("its unit is missing (B, kB, MB, GB, KiB, MiB, GiB)")),
            _ => return Err(error("its unit is none of B, kB, MB, GB, KiB, MiB, GiB")),
        };
        let bytes = number * scale;
        if bytes.fract() != 0.0 {
            return Err(error("it is not a whole number of bytes"));
        }
        if bytes > 1e15 {
            return Err(error("it is larger than any disk"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and bounded, and digits carry no sign"
        )]
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n.is_multiple_of(1 << 30) => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |reason| UnitError {
            text: text.to_owned(),
            what: "rate",
            reason,
            example: "\"500/s\", \"10k/s\", \"2M/s\"",
        };
        let (number, unit) = split(text).ok_or_else(|| error("it has no number"))?;
        let (prefix, per) = unit.split_once('/').ok_or_else(|| error("it has no `/s` or `/m`"))?;
        let scale = match prefix.trim() {
            "" => 1.0,
            "k" | "K" => 1e3,
            "M" => 1e6,
            _ => return Err(error("its prefix is none of k, M")),
        };
        let seconds = match per.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            _ => return Err(error("it is neither per second (`/s`) nor per minute (`/m`)")),
        };
        // A prefix shifts the point: `128.55k` is 128550, not the nearest product of two doubles.
        let rate = (number * scale * 1e6).round() / 1e6 / seconds;
        if rate <= 0.0 {
            return Err(error("it must be more than zero"));
        }
        if rate > 1e9 {
            return Err(error("it is more than a message per nanosecond"));
        }
        Ok(Self(rate))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |x: f64| (x - x.round()).abs() < 1e-9;
        match self.0 {
            r if r >= 1e6 && whole(r / 1e4) => write!(f, "{}M/s", r / 1e6),
            r if r >= 1e3 && whole(r / 10.0) => write!(f, "{}k/s", r / 1e3),
            r if whole(r) => write!(f, "{r}/s"),
            r if whole(r * 60.0) => write!(f, "{}/m", (r * 60.0).round()),
            r => write!(f, "{r}/s"),
        }
    }
}

macro_rules! serde_as_text {
    ($($unit:ty),+) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

serde_as_text!(Span, Size, Rate);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_parse_with_their_units() {
        for (text, ns) in [
            ("500ms", 500_000_000),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("2h", 7_200_000_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("7ns", 7),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().0.as_nanos(), ns, "{text}");
        }
    }

    #[test]
    fn sizes_and_rates_parse_with_their_units() {
        assert_eq!("256B".parse::<Size>().unwrap(), Size(256));
        assert_eq!("1MiB".parse::<Size>().unwrap(), Size(1 << 20));
        assert_eq!("4kB".parse::<Size>().unwrap(), Size(4_000));
        assert_eq!("10k/s".parse::<Rate>().unwrap().get().to_string(), "10000");
        assert_eq!("1.5M/s".parse::<Rate>().unwrap().get().to_string(), "1500000");
        assert_eq!("30/m".parse::<Rate>().unwrap().get().to_string(), "0.5");
    }

    #[test]
    fn a_wrong_unit_is_refused_with_what_would_be_right() {
        for (error, wants) in [
            ("5".parse::<Span>().unwrap_err(), "unit is missing"),
            ("5 parsecs".parse::<Span>().unwrap_err(), "none of ns, us, ms, s, m, h"),
            ("".parse::<Span>().unwrap_err(), "empty"),
            ("256".parse::<Size>().unwrap_err(), "unit is missing"),
            ("0.5B".parse::<Size>().unwrap_err(), "whole number of bytes"),
            ("10k".parse::<Rate>().unwrap_err(), "no `/s`"),
            ("0/s".parse::<Rate>().unwrap_err(), "more than zero"),
            ("-5/s".parse::<Rate>().unwrap_err(), "no number"),
        ] {
            let text = error.to_string();
            assert!(text.contains(wants) && text.contains("for instance"), "{text}");
        }
    }

    proptest! {
        /// What is printed parses back to the same quantity.
        #[test]
        fn printing_and_parsing_are_inverse(ns in 0u64..10_000_000_000_000, bytes in 0u64..1 << 40, rate in 1u32..2_000_000) {
            let span = Span(Duration::from_nanos(ns));
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
            let rate = Rate::per_second(f64::from(rate));
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }
    }
}
