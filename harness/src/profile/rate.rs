//! Messages per second over a phase.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Rate, Span};

/// How the rate runs over a phase.
#[derive(Clone, Debug, PartialEq)]
pub enum RateShape {
    /// The same all the time: `"10k/s"`.
    Constant(Rate),
    /// Linear: `{ from = "1k/s", to = "10k/s" }`.
    Ramp {
        /// At the start.
        from: Rate,
        /// At the end.
        to: Rate,
    },
    /// Equally long steps: `{ steps = ["1k/s", "2k/s"] }`.
    Steps(Vec<Rate>),
    /// A burst on a base: `{ base = "1k/s", peak = "10k/s", at = "2s", lasts = "1s" }`.
    Spike {
        /// Before and after.
        base: Rate,
        /// Meanwhile.
        peak: Rate,
        /// When it begins, from the phase's start.
        at: Span,
        /// How long it lasts.
        lasts: Span,
    },
    /// The trace's own timestamps: `{ trace = "own-pace", speed = 10.0, loop = true }`.
    Trace(TracePace),
}

/// How a recorded trace is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracePace {
    /// Recorded time divided by this is replayed time.
    pub speed: f64,
    /// Begin again at the end, until the phase is over.
    pub repeat: bool,
}

/// A table of a rate, as written; exactly one of the four forms.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Rate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lasts: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<OwnPace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<f64>,
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    repeat: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OwnPace {
    OwnPace,
}

const FORMS: &str = "a rate is \"10k/s\", { from, to }, { steps = [..] }, { base, peak, at, lasts } or { trace = \"own-pace\", speed, loop }";

impl<'de> Deserialize<'de> for RateShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateOrTable;

        impl<'de> Visitor<'de> for RateOrTable {
            type Value = RateShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RateShape, E> {
                text.parse().map(RateShape::Constant).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateShape, A::Error> {
                match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table {
                        from: Some(from),
                        to: Some(to),
                        steps: None,
                        base: None,
                        peak: None,
                        at: None,
                        lasts: None,
                        trace: None,
                        speed: None,
                        repeat: None,
                    } => Ok(RateShape::Ramp { from, to }),
                    Table {
                        from: None,
                        to: None,
                        steps: Some(steps),
                        base: None,
                        peak: None,
                        at: None,
                        lasts: None,
                        trace: None,
                        speed: None,
                        repeat: None,
                    } => Ok(RateShape::Steps(steps)),
                    Table {
                        from: None,
                        to: None,
                        steps: None,
                        base: Some(base),
                        peak: Some(peak),
                        at: Some(at),
                        lasts: Some(lasts),
                        trace: None,
                        speed: None,
                        repeat: None,
                    } => Ok(RateShape::Spike { base, peak, at, lasts }),
                    Table {
                        from: None,
                        to: None,
                        steps: None,
                        base: None,
                        peak: None,
                        at: None,
                        lasts: None,
                        trace: Some(OwnPace::OwnPace),
                        speed,
                        repeat,
                    } => Ok(RateShape::Trace(TracePace {
                        speed: speed.unwrap_or(1.0),
                        repeat: repeat.unwrap_or(false),
                    })),
                    _ => Err(serde::de::Error::custom(FORMS)),
                }
            }
        }

        deserializer.deserialize_any(RateOrTable)
    }
}

impl Serialize for RateShape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = match self.clone() {
            Self::Constant(rate) => return rate.serialize(serializer),
            Self::Ramp { from, to } => Table { from: Some(from), to: Some(to), ..Table::default() },
            Self::Steps(steps) => Table { steps: Some(steps), ..Table::default() },
            Self::Spike { base, peak, at, lasts } => Table {
                base: Some(base),
                peak: Some(peak),
                at: Some(at),
                lasts: Some(lasts),
                ..Table::default()
            },
            Self::Trace(pace) => Table {
                trace: Some(OwnPace::OwnPace),
                speed: Some(pace.speed),
                repeat: Some(pace.repeat),
                ..Table::default()
            },
        };
        table.serialize(serializer)
    }
}
