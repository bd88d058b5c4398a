//! A member as everybody sees it ([`Node`], a contract with existing clients) and as the cluster keeps it
//! ([`Member`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::{NameError, NodeId, check_name};

/// The only status a listed member has: one that fails is removed rather than marked.
pub const STATUS_ACTIVE: &str = "active";

/// The most services a node publishes.
pub const MAX_SERVICES: usize = 64;

const MAX_ADDRESS_BYTES: usize = 256;

fn active() -> String {
    STATUS_ACTIVE.to_owned()
}

/// A member as shown over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The HTTP address it was configured with, verbatim: may be `:8080` on a single host.
    pub ip: String,
    /// Always 0; kept because clients read it.
    #[serde(default)]
    pub port: u16,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Always [`STATUS_ACTIVE`].
    #[serde(default = "active")]
    pub status: String,
    /// Further addresses of the application, by service name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, String>,
    /// The HTTP address other machines reach it under, when it is not `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_addr: Option<String>,
}

impl Node {
    /// Where to send a request for this node: its advertised address, or `ip` with this host in front of a
    /// bare port.
    #[must_use]
    pub fn http_addr(&self) -> String {
        let address = self.advertise_addr.as_ref().unwrap_or(&self.ip);
        if address.starts_with(':') { format!("127.0.0.1{address}") } else { address.clone() }
    }

    /// Checks what a peer claims about itself before it is proposed.
    ///
    /// # Errors
    ///
    /// The field that cannot be taken.
    pub fn check(&self) -> Result<(), NodeError> {
        check_address("ip", &self.ip)?;
        if let Some(address) = &self.advertise_addr {
            check_address("advertise_addr", address)?;
        }
        check_name_field(&self.name)?;
        check_services(&self.services)
    }
}

/// A description of a node that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address that is empty, overlong or without a port.
    #[error("{field} {address:?} is not an address (expected `:port` or `host:port`)")]
    Address {
        /// Which field.
        field: &'static str,
        /// What was given.
        address: String,
    },
    /// A service without a name.
    #[error("service name cannot be empty")]
    ServiceName,
    /// A service without an address.
    #[error("service address for '{0}' cannot be empty")]
    ServiceEmpty(String),
    /// A service address that is none.
    #[error(
        "invalid service address format for '{name}': {address} (expected format: ':port' or 'host:port')"
    )]
    ServiceAddress {
        /// The service.
        name: String,
        /// What was given.
        address: String,
    },
    /// More services than [`MAX_SERVICES`].
    #[error("{0} services are too many, at most {MAX_SERVICES} are allowed")]
    TooManyServices(usize),
}

fn check_name_field(name: &str) -> Result<(), NodeError> {
    // A display name may be empty or in any script, but not hide line breaks in a log.
    let what = "node name";
    if name.len() > super::name::MAX_NAME_BYTES {
        let limit = super::name::MAX_NAME_BYTES;
        return Err(NameError::TooLong { what, bytes: name.len(), limit }.into());
    }
    if name.chars().any(char::is_control) {
        let rule = "no control character";
        return Err(NameError::Forbidden { what, name: name.to_owned(), rule }.into());
    }
    Ok(())
}

fn has_port(address: &str) -> bool {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    address.len() <= MAX_ADDRESS_BYTES && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Checks `:port` or `host:port`.
///
/// # Errors
///
/// Names the field.
pub fn check_address(field: &'static str, address: &str) -> Result<(), NodeError> {
    let clean = !address.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/');
    if clean && has_port(address) {
        return Ok(());
    }
    Err(NodeError::Address { field, address: address.to_owned() })
}

/// Checks the services a node publishes.
///
/// # Errors
///
/// Names the first service that cannot be taken.
pub fn check_services(services: &BTreeMap<String, String>) -> Result<(), NodeError> {
    if services.len() > MAX_SERVICES {
        return Err(NodeError::TooManyServices(services.len()));
    }
    for (name, address) in services {
        if name.is_empty() {
            return Err(NodeError::ServiceName);
        }
        check_name("service name", name)?;
        if address.is_empty() {
            return Err(NodeError::ServiceEmpty(name.clone()));
        }
        if !address.contains(':') || address.len() > MAX_ADDRESS_BYTES {
            return Err(NodeError::ServiceAddress { name: name.clone(), address: address.clone() });
        }
    }
    Ok(())
}

/// A member as the cluster keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What is shown.
    #[serde(flatten)]
    pub node: Node,
    /// Its id in Raft: drawn afresh for every empty data directory and never used again, so that a
    /// replacement under an old name cannot vote on its predecessor's word. 0 in entries without one.
    #[serde(default)]
    pub raft_id: u64,
    /// Where Raft reaches it.
    #[serde(default)]
    pub raft_addr: String,
}

#[cfg(test)]
mod tests {
    use super::{Node, check_address, check_services};

    #[test]
    fn a_node_is_written_as_clients_read_it() {
        let text = r#"{"id":"node-1","ip":":8080","port":0,"name":"Server-1","status":"active","services":{"kv":":9080"}}"#;
        let node: Node = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&node).unwrap(), text);
        assert_eq!(node.http_addr(), "127.0.0.1:8080");
        let bare: Node = serde_json::from_str(r#"{"id":"n","ip":"h:1"}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&bare).unwrap(),
            r#"{"id":"n","ip":"h:1","port":0,"name":"","status":"active"}"#
        );
    }

    #[test]
    fn an_id_that_climbs_is_refused_on_reading() {
        assert!(serde_json::from_str::<Node>(r#"{"id":"../n","ip":":1"}"#).is_err());
    }

    #[test]
    fn addresses_need_a_port() {
        for bad in ["", "host", "host:", "host:99999", "http://h:1", "h :1"] {
            assert!(check_address("ip", bad).is_err(), "{bad:?}");
        }
        for good in [":8080", "h:1", "[::1]:80"] {
            assert_eq!(check_address("ip", good), Ok(()));
        }
    }

    #[test]
    fn services_are_refused_with_the_known_texts() {
        let said = |name: &str, address: &str| {
            check_services(&[(name.to_owned(), address.to_owned())].into()).unwrap_err().to_string()
        };
        assert_eq!(said("", ":1"), "service name cannot be empty");
        assert_eq!(said("kv", ""), "service address for 'kv' cannot be empty");
        assert_eq!(
            said("kv", "9080"),
            "invalid service address format for 'kv': 9080 (expected format: ':port' or 'host:port')"
        );
    }
}
