//! What a message's body is made of.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::units::Size;

/// The body of every message. Sizes are of the whole payload, envelope included.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Payload {
    /// Seeded bytes, the same in every message.
    Fixed {
        /// Bytes a message.
        size: Size,
    },
    /// Seeded bytes, one of a pool of different bodies; `random_ratio` of each is random, the rest is zeros,
    /// which sets how far it compresses.
    Random {
        /// Bytes a message.
        size: Size,
        /// Share of random bytes, 0 to 1.
        random_ratio: f64,
    },
    /// Looks like a JSON document, compresses like one.
    Json {
        /// Bytes a message.
        size: Size,
    },
    /// The content of a file, the same in every message.
    File {
        /// Relative to the profile's file.
        path: PathBuf,
    },
    /// As recorded in the trace.
    Trace,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Table {
    Fixed {
        size: Size,
    },
    Random {
        size: Size,
        #[serde(default = "all")]
        random_ratio: f64,
    },
    Json {
        size: Size,
    },
    File {
        path: PathBuf,
    },
    Trace {},
}

fn all() -> f64 {
    1.0
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeOrTable;

        impl<'de> Visitor<'de> for SizeOrTable {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"256B\" or a table like { kind = \"json\", size = \"256B\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Payload, E> {
                Ok(Payload::Random { size: text.parse().map_err(E::custom)?, random_ratio: 1.0 })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
                Ok(match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table::Fixed { size } => Payload::Fixed { size },
                    Table::Random { size, random_ratio } => Payload::Random { size, random_ratio },
                    Table::Json { size } => Payload::Json { size },
                    Table::File { path } => Payload::File { path },
                    Table::Trace {} => Payload::Trace,
                })
            }
        }

        deserializer.deserialize_any(SizeOrTable)
    }
}
