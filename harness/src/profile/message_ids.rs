//! Whether messages carry an id.

use serde::{Deserialize, Serialize};

/// Whether messages carry an id, by which a backend knows a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageIds {
    /// Every message has one.
    Unique,
    /// None has; what a backend sends again after a lost connection it cannot recognise. A composite gives
    /// ids of its own.
    None,
}
