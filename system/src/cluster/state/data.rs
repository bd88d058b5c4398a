//! Custom data: small values everybody has, under keys.
//!
//! Last writer wins. Bounds: [`MAX_VALUE_BYTES`] for a value, [`MAX_TOTAL_BYTES`] for all keys and values
//! together, since they are part of every snapshot; what would exceed them is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::{
    bytes64::Base64Bytes,
    command::{Outcome, Refusal},
    name::check_key,
};

/// The largest value.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The most that all keys and values may come to.
pub const MAX_TOTAL_BYTES: usize = 64 << 20;

/// All custom data.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Base64Bytes>", into = "BTreeMap<String, Base64Bytes>")]
pub struct CustomData {
    values: BTreeMap<String, Base64Bytes>,
    total_bytes: usize,
}

impl From<BTreeMap<String, Base64Bytes>> for CustomData {
    fn from(values: BTreeMap<String, Base64Bytes>) -> Self {
        let total_bytes = values.iter().map(|(key, value)| key.len() + value.0.len()).sum();
        Self { values, total_bytes }
    }
}

impl From<CustomData> for BTreeMap<String, Base64Bytes> {
    fn from(data: CustomData) -> Self {
        data.values
    }
}

impl CustomData {
    /// One value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Base64Bytes> {
        self.values.get(key)
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// All values by key.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<String, Base64Bytes> {
        &self.values
    }

    pub(super) fn set(&mut self, key: &str, value: &Base64Bytes) -> Result<Outcome, Refusal> {
        check_key("key", key).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if value.0.len() > MAX_VALUE_BYTES {
            return Err(Refusal::ValueTooLarge(value.0.len()));
        }
        let replaced = self.values.get(key).map_or(0, |old| key.len() + old.0.len());
        let bytes = self.total_bytes - replaced + key.len() + value.0.len();
        if bytes > MAX_TOTAL_BYTES {
            return Err(Refusal::CustomDataFull { bytes, limit: MAX_TOTAL_BYTES });
        }
        self.values.insert(key.to_owned(), value.clone());
        self.total_bytes = bytes;
        Ok(Outcome::Done)
    }

    pub(super) fn delete(&mut self, key: &str) -> Result<Outcome, Refusal> {
        check_key("key", key).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if let Some(old) = self.values.remove(key) {
            self.total_bytes -= key.len() + old.0.len();
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::{CustomData, MAX_TOTAL_BYTES, MAX_VALUE_BYTES};
    use crate::cluster::{bytes64::Base64Bytes, command::Refusal};

    fn value(bytes: usize) -> Base64Bytes {
        Base64Bytes(vec![7; bytes].into())
    }

    #[test]
    fn values_have_the_known_bounds_and_texts() {
        let mut data = CustomData::default();
        assert_eq!(data.set("", &value(1)).unwrap_err().to_string(), "key cannot be empty");
        let said = data.set("k", &value(MAX_VALUE_BYTES + 1)).unwrap_err().to_string();
        assert_eq!(said, "value too large (max 1MB, got 1048577 bytes)");
        data.set("k", &value(MAX_VALUE_BYTES)).unwrap();
        data.delete("k").unwrap();
        data.delete("k").unwrap();
        assert_eq!(data, CustomData::default());
    }

    #[test]
    fn all_values_together_have_a_bound() {
        let mut data = CustomData::default();
        let fits = MAX_TOTAL_BYTES / MAX_VALUE_BYTES - 1;
        for number in 0..fits {
            data.set(&number.to_string(), &value(MAX_VALUE_BYTES)).unwrap();
        }
        assert!(matches!(data.set("more", &value(MAX_VALUE_BYTES)), Err(Refusal::CustomDataFull { .. })));
        data.set("0", &value(MAX_VALUE_BYTES)).unwrap();
        data.delete("0").unwrap();
        data.set("more", &value(MAX_VALUE_BYTES)).unwrap();
        let read: CustomData = serde_json::from_str(&serde_json::to_string(&data).unwrap()).unwrap();
        assert_eq!(read, data);
    }
}
