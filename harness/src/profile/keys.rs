//! Which key each message carries.

use serde::{Deserialize, Serialize};

/// The distribution of keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Keys {
    /// No keys; the backend spreads messages as it likes.
    None,
    /// Every key equally often.
    Uniform {
        /// How many keys.
        count: u32,
    },
    /// The k-th key with weight `1 / k^exponent`.
    Zipf {
        /// How many keys.
        count: u32,
        /// Skew; 0.99 as in YCSB unless given.
        #[serde(default = "default_exponent")]
        exponent: f64,
    },
    /// As recorded in the trace.
    Trace,
}

fn default_exponent() -> f64 {
    0.99
}

impl Default for Keys {
    fn default() -> Self {
        Self::Uniform { count: 1_000 }
    }
}
