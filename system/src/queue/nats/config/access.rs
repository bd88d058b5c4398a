//! Who we are to the server, and how the connection is protected. Secrets are never shown or written.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::{PathBuf, setting};
use crate::queue::QueueError;

/// How the client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NatsAuth {
    /// Name and password.
    #[serde(rename_all = "kebab-case")]
    UserPassword {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of an nkey pair.
    NkeySeed(Secret),
    /// A `.creds` file: a user's JWT and the seed of its key.
    CredentialsFile(PathBuf),
}

impl NatsAuth {
    /// What an error message may say of it.
    pub(in crate::queue::nats) fn describe(&self) -> String {
        match self {
            Self::UserPassword { user, .. } => format!("user `{user}`"),
            Self::Token(_) => "a token".to_owned(),
            Self::NkeySeed(_) => "an nkey".to_owned(),
            Self::CredentialsFile(path) => format!("credentials file {}", path.display()),
        }
    }
}

/// How the connection is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsTls {
    /// PEM file of the authorities that may have signed the server's certificate. Unset: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate, for a server that asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// Whether TLS begins before the server's first line, as its `handshake_first` wants.
    pub handshake_first: bool,
}

impl NatsTls {
    pub(super) fn validate(&self) -> Result<(), QueueError> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(setting("tls", "cert_file and key_file go together"));
        }
        for (name, file) in
            [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)]
        {
            if let Some(path) = file
                && !path.is_file()
            {
                return Err(setting("tls", &format!("{name}: there is no file {}", path.display())));
            }
        }
        Ok(())
    }
}

/// Text that is neither shown nor written: it reads from a configuration and prints as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(in crate::queue::nats) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
