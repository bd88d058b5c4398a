//! The environment as a value, so that tests need not change the process's own.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// What this process was given; variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// Exactly these.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The value, unless it is unset or empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, name: &str, into: &mut String) {
        if let Some(value) = self.get(name) {
            value.clone_into(into);
        }
    }

    pub(super) fn optional_text(&self, name: &str, into: &mut Option<String>) {
        if let Some(value) = self.get(name) {
            *into = Some(value.to_owned());
        }
    }

    /// Whatever is not such a number is ignored, as existing deployments expect.
    pub(super) fn number<T: FromStr>(&self, name: &str, into: &mut T) {
        if let Some(value) = self.get(name).and_then(|value| value.parse().ok()) {
            *into = value;
        }
    }

    pub(super) fn flag(&self, name: &str, into: &mut bool) {
        match self.get(name) {
            Some("1" | "true" | "yes" | "on") => *into = true,
            Some("0" | "false" | "no" | "off") => *into = false,
            _ => {}
        }
    }
}
