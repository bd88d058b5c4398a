//! Servers that somebody else runs: an address, and what is needed to be let in.
//!
//! The environment variables are those that the `nats` command-line client and the usual Kafka images use,
//! so that an environment that already works for them works here. Nothing is started, broken or stopped.

use std::env;
use std::fmt;
use std::path::PathBuf;

use crate::backend::Backend;

/// Where a server is and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    /// NATS: `host:port` or a URL, several with commas. Kafka: bootstrap servers, several with commas.
    pub address: String,
    /// What the server asks for.
    pub credentials: Credentials,
}

impl External {
    /// A server that lets everybody in.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into(), credentials: Credentials::default() }
    }

    /// `NATS_URL` with `NATS_USER`, `NATS_PASSWORD`, `NATS_TOKEN`, `NATS_CREDS`, `NATS_CA`, `NATS_CERT`,
    /// `NATS_KEY`; or `KAFKA_BROKERS` with `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_MECHANISM`,
    /// `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD`, `KAFKA_SSL_CA`, `KAFKA_SSL_CERT`, `KAFKA_SSL_KEY`.
    /// etcd: `ETCDCTL_ENDPOINTS`. None where the address is not set.
    pub fn from_env(backend: Backend) -> Option<Self> {
        Self::from_lookup(backend, |name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The address without a password that a URL may carry: for messages and records.
    pub fn shown(&self) -> String {
        let hide = |part: &str| match part.rsplit_once('@') {
            Some((before, host)) => {
                let scheme =
                    before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
                format!("{scheme}…@{host}")
            }
            None => part.to_owned(),
        };
        self.address.split(',').map(hide).collect::<Vec<_>>().join(",")
    }

    fn from_lookup(backend: Backend, lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let path = |name| lookup(name).map(PathBuf::from);
        Some(match backend {
            Backend::Nats => Self {
                address: lookup("NATS_URL")?,
                credentials: Credentials {
                    user: lookup("NATS_USER"),
                    password: lookup("NATS_PASSWORD"),
                    token: lookup("NATS_TOKEN"),
                    credentials_file: path("NATS_CREDS"),
                    tls_ca: path("NATS_CA"),
                    tls_certificate: path("NATS_CERT"),
                    tls_key: path("NATS_KEY"),
                    ..Credentials::default()
                },
            },
            Backend::Etcd => Self::at(lookup("ETCDCTL_ENDPOINTS")?),
            Backend::Kv => Self::at(lookup("KV_URLS")?),
            Backend::Kafka => Self {
                address: lookup("KAFKA_BROKERS")?,
                credentials: Credentials {
                    user: lookup("KAFKA_SASL_USERNAME"),
                    password: lookup("KAFKA_SASL_PASSWORD"),
                    security_protocol: lookup("KAFKA_SECURITY_PROTOCOL"),
                    sasl_mechanism: lookup("KAFKA_SASL_MECHANISM"),
                    tls_ca: path("KAFKA_SSL_CA"),
                    tls_certificate: path("KAFKA_SSL_CERT"),
                    tls_key: path("KAFKA_SSL_KEY"),
                    ..Credentials::default()
                },
            },
        })
    }
}

impl fmt::Debug for External {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("External")
            .field("address", &self.shown())
            .field("credentials", &self.credentials)
            .finish()
    }
}

/// What a server may ask for. Secrets are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name (Kafka: SASL).
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// NATS token.
    pub token: Option<String>,
    /// NATS credentials file (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// Kafka's `security.protocol`.
    pub security_protocol: Option<String>,
    /// Kafka's `sasl.mechanism`.
    pub sasl_mechanism: Option<String>,
    /// Certificate authorities, PEM.
    pub tls_ca: Option<PathBuf>,
    /// Own certificate, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        formatter
            .debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &hidden(&self.password))
            .field("token", &hidden(&self.token))
            .field("credentials_file", &self.credentials_file)
            .field("security_protocol", &self.security_protocol)
            .field("sasl_mechanism", &self.sasl_mechanism)
            .field("tls_ca", &self.tls_ca)
            .field("tls_certificate", &self.tls_certificate)
            .field("tls_key", &self.tls_key)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_server_and_the_way_in() {
        let external = External::from_lookup(Backend::Kafka, |name| match name {
            "KAFKA_BROKERS" => Some("a:9092,b:9092".to_owned()),
            "KAFKA_SASL_PASSWORD" => Some("secret".to_owned()),
            _ => None,
        })
        .unwrap();
        assert_eq!(external.address, "a:9092,b:9092");
        assert_eq!(external.credentials.password.as_deref(), Some("secret"));
        assert!(!format!("{external:?}").contains("secret"));
        let url = External::at("nats://me:secret@a:4222,b:4222");
        assert_eq!(url.shown(), "nats://…@a:4222,b:4222");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(External::from_lookup(Backend::Nats, |_| None), None);
    }
}
