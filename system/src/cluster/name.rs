//! Names, checked once where they enter: node ids, cluster names, partition ids, custom-data keys, locks.
//!
//! A name may end up in a path, a URL, a log line or a file, so none of them can climb out of a directory
//! (`..`), hide (`.x`), or carry a separator or control character where that would mean something. Bounds:
//! [`MAX_NAME_BYTES`] for ids and names, [`MAX_KEY_BYTES`] for custom-data keys and lock names.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest node id, cluster name or service name.
pub const MAX_NAME_BYTES: usize = 128;

/// The longest custom-data key, lock name or lease id.
pub const MAX_KEY_BYTES: usize = 512;

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{what} cannot be empty")]
    Empty {
        /// Which name.
        what: &'static str,
    },
    /// Over its bound.
    #[error("{what} is {bytes} bytes long, at most {limit} are allowed")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A character or sequence that is not allowed.
    #[error("{what} {name:?} is not allowed: {rule}")]
    Forbidden {
        /// Which name.
        what: &'static str,
        /// What was given.
        name: String,
        /// What would be right.
        rule: &'static str,
    },
}

/// Checks an id or name that may become part of a file name: letters, digits, `.`, `_` and `-`, beginning
/// with a letter or digit.
///
/// # Errors
///
/// The rule that is broken.
pub fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    let first = name.chars().next().ok_or(NameError::Empty { what })?;
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { what, bytes: name.len(), limit: MAX_NAME_BYTES });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !first.is_ascii_alphanumeric() || !name.chars().all(allowed) {
        return Err(NameError::Forbidden {
            what,
            name: name.to_owned(),
            rule: "use letters, digits, `.`, `_` and `-`, and begin with a letter or digit",
        });
    }
    Ok(())
}

/// Checks a custom-data key, lock name or lease id. Slashes structure such keys; `.` and `..` segments, a
/// leading slash, backslashes and control characters are refused.
///
/// # Errors
///
/// The rule that is broken.
pub fn check_key(what: &'static str, key: &str) -> Result<(), NameError> {
    if key.is_empty() {
        return Err(NameError::Empty { what });
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(NameError::TooLong { what, bytes: key.len(), limit: MAX_KEY_BYTES });
    }
    let climbs = key.starts_with('/') || key.split('/').any(|segment| matches!(segment, "." | ".."));
    if climbs || key.chars().any(|c| c.is_control() || c == '\\') {
        return Err(NameError::Forbidden {
            what,
            name: key.to_owned(),
            rule: "no leading slash, no `.` or `..` segment, no backslash, no control character",
        });
    }
    Ok(())
}

/// A member's id: the same for as long as the member plays the same part, across restarts and
/// replacements. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name("node id", text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A partition's number, written `partition-N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// Where the partition stands in a list of all of them.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition-{}", self.0)
    }
}

impl FromStr for PartitionId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = text.strip_prefix("partition-").and_then(|digits| digits.parse().ok().map(Self));
        // Only the spelling that is written is read: no sign, no leading zero.
        number.filter(|id| id.to_string() == text).ok_or_else(|| NameError::Forbidden {
            what: "partition id",
            name: text.to_owned(),
            rule: "use `partition-N`, N a decimal number",
        })
    }
}

impl Serialize for PartitionId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartitionId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name shown for a node that was not given one: `Server-N` for `node-N`, `server-N` or a leading
/// number, otherwise the id with its first letter in upper case.
#[must_use]
pub fn default_node_name(id: &NodeId) -> String {
    let text = id.as_str();
    let rest = text.strip_prefix("node-").or_else(|| text.strip_prefix("server-")).unwrap_or(text);
    let digits: &str = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
    let numbered = if rest.len() == text.len() { !digits.is_empty() } else { digits == rest };
    if numbered && !digits.is_empty() {
        return format!("Server-{digits}");
    }
    let mut name = text.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{NodeId, PartitionId, check_key, default_node_name};

    #[test]
    fn a_node_id_cannot_climb_out_of_a_directory() {
        for bad in ["", "..", ".", "../x", "a/b", "a\\b", ".hidden", "-flag", "a b", "a\0", "ä"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?} was taken");
        }
        assert!("x".repeat(129).parse::<NodeId>().is_err());
        for good in ["node-1", "1", "a.b_c-D", &"x".repeat(128)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_key_may_have_segments_but_cannot_climb() {
        for bad in ["", "/etc/passwd", "a/../b", "..", "a/.", "a\\b", "a\nb"] {
            assert!(check_key("key", bad).is_err(), "{bad:?} was taken");
        }
        for good in ["feature_flags", "user:1", "a/b", "a..b", "schlüssel"] {
            assert_eq!(check_key("key", good), Ok(()));
        }
        assert!(check_key("key", &"k".repeat(513)).is_err());
    }

    #[test]
    fn a_partition_id_is_read_only_as_it_is_written() {
        assert_eq!("partition-63".parse(), Ok(PartitionId(63)));
        for bad in ["partition-", "partition-:", "partition-063", "partition-+1", "Partition-1", "1"] {
            assert!(bad.parse::<PartitionId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn node_names_are_derived_from_ids() {
        for (id, name) in [
            ("node-7", "Server-7"),
            ("server-12", "Server-12"),
            ("3", "Server-3"),
            ("42east", "Server-42"),
            ("alpha", "Alpha"),
            ("Beta", "Beta"),
            ("node-x", "Node-x"),
        ] {
            assert_eq!(default_node_name(&id.parse().unwrap()), name);
        }
    }
}
