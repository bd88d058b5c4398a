//! How a node is set up: what a user writes ([`Options`]), and what is made of it ([`Settings`]).
//!
//! Every problem is found before anything is started, and all of them are reported together.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    command::ClusterConfig,
    health::HealthSettings,
    name::{NodeId, default_node_name},
    node::{Node, STATUS_ACTIVE, check_address, check_services},
    tls::TlsOptions,
};

/// What a user writes. Everything but the first two fields has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Id of this node; required.
    pub node_id: String,
    /// Where HTTP listens, `:8080` or `host:8080`; required, and published as it is.
    pub http_addr: String,
    /// A name for people; made from the id if empty.
    pub node_name: String,
    /// Where Raft listens; made from `http_addr` if empty.
    pub raft_addr: String,
    /// Where others reach this node's HTTP; `http_addr` if empty.
    pub advertise_addr: String,
    /// Where others reach this node's Raft; `raft_addr` if empty.
    pub advertise_raft_addr: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Partitions of a new cluster; 0 for 16. One that is joined keeps its own.
    pub partition_count: u32,
    /// Nodes in charge of each partition of a new cluster, primary included; 0 for 3.
    pub replication_factor: usize,
    /// HTTP addresses of known members, without a scheme; with none this node begins a cluster.
    pub join_addrs: Vec<String>,
    /// Begins a cluster although members are known, unless one of them says that there is one already: a node
    /// that has lost its disk joins again.
    pub bootstrap: bool,
    /// Whether members that do not answer are removed.
    pub remove_silent: bool,
    /// How members are watched.
    pub health: HealthSettings,
    /// Further addresses of the application, by service name.
    pub services: BTreeMap<String, String>,
    /// How long it must be quiet before one rebalance follows all joins and leaves.
    pub rebalance_delay: Duration,
    /// Asked for on joining, changing anything, custom data and between members; none asks for nothing.
    pub shared_secret: Option<String>,
    /// Encrypts HTTP and Raft, and may know members by their certificates.
    pub tls: Option<TlsOptions>,
    /// Whether looking at members, partitions and figures asks for the same as changing them. Only the probes
    /// `/health` and `/ready` are open then.
    pub protect_reads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: String::new(),
            http_addr: String::new(),
            node_name: String::new(),
            raft_addr: String::new(),
            advertise_addr: String::new(),
            advertise_raft_addr: String::new(),
            data_dir: "./clusterkit-data".into(),
            cluster_name: "clusterkit-cluster".to_owned(),
            partition_count: 16,
            replication_factor: 3,
            join_addrs: Vec::new(),
            bootstrap: false,
            remove_silent: false,
            health: HealthSettings::default(),
            services: BTreeMap::new(),
            rebalance_delay: Duration::from_millis(250),
            shared_secret: None,
            tls: None,
            protect_reads: false,
        }
    }
}

/// Everything that is wrong with the options, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct OptionsError(pub Vec<String>);

/// Options that have been checked and completed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What others see of this node.
    pub node: Node,
    /// Where HTTP listens.
    pub http_listen: String,
    /// Where Raft listens.
    pub raft_listen: String,
    /// Where others reach Raft.
    pub raft_addr: String,
    /// The cluster this node would begin.
    pub cluster: ClusterConfig,
    /// The options as they were written.
    pub options: Options,
}

/// The port that belongs to an HTTP port: 8080 to 10001, 8081 to 10002, and so on.
fn raft_port(http_port: u16) -> Option<u16> {
    let port = i32::from(http_port) - 8_080 + 10_001;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

fn derive_raft_addr(http_addr: &str) -> Result<String, String> {
    let (host, port) = http_addr.rsplit_once(':').unwrap_or((http_addr, ""));
    let derived = port.parse::<u16>().ok().and_then(raft_port);
    let port = derived.ok_or_else(|| {
        format!("no Raft port follows from HTTPAddr {http_addr:?} (its port + 1921 must be 1 to 65535): set RaftAddr")
    })?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(format!("{host}:{port}"))
}

fn listen(address: &str) -> String {
    if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() }
}

impl Settings {
    /// Where a peer's Raft is reached, as a URL.
    #[must_use]
    pub fn raft_url(&self, address: &str) -> String {
        format!("{}://{address}", self.scheme())
    }

    /// `https` with TLS, otherwise `http`: all members of a cluster do alike.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.options.tls.is_some() { "https" } else { "http" }
    }
}

impl Options {
    /// Options of a node with this id and HTTP address, and the defaults for the rest.
    #[must_use]
    pub fn new(node_id: impl Into<String>, http_addr: impl Into<String>) -> Self {
        Self { node_id: node_id.into(), http_addr: http_addr.into(), ..Self::default() }
    }

    /// Checks and completes the options.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn check(self) -> Result<Settings, OptionsError> {
        let mut problems = Vec::new();
        let node_id = match self.node_id.as_str() {
            "" => Err("NodeID is required".to_owned()),
            text => text.parse::<NodeId>().map_err(|error| error.to_string()),
        };
        let node_id = node_id.map_err(|problem| problems.push(problem)).ok();
        let mut note = |checked: Result<(), String>| problems.extend(checked.err());
        let address = |field, text: &str| check_address(field, text).map_err(|error| error.to_string());
        note(match self.http_addr.as_str() {
            "" => Err("HTTPAddr is required".to_owned()),
            text => address("HTTPAddr", text),
        });
        let raft_addr = match self.raft_addr.as_str() {
            "" if self.http_addr.is_empty() => Ok(String::new()),
            "" => derive_raft_addr(&self.http_addr),
            text => address("RaftAddr", text).map(|()| text.to_owned()),
        };
        let advertised =
            [("AdvertiseAddr", &self.advertise_addr), ("AdvertiseRaftAddr", &self.advertise_raft_addr)];
        for (field, text) in advertised.into_iter().filter(|(_, text)| !text.is_empty()) {
            note(address(field, text));
        }
        self.join_addrs.iter().for_each(|text| note(address("JoinAddr", text)));
        note(check_services(&self.services).map_err(|error| error.to_string()));
        let cluster = ClusterConfig {
            cluster_name: self.cluster_name.clone(),
            partition_count: if self.partition_count == 0 { 16 } else { self.partition_count },
            replication_factor: if self.replication_factor == 0 { 3 } else { self.replication_factor },
        };
        note(cluster.check());
        note(match self.shared_secret.as_deref() {
            Some(secret) if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("SharedSecret: use one or more printable ASCII characters without spaces".to_owned())
            }
            _ => Ok(()),
        });
        let guarded = self.shared_secret.is_some()
            || self.tls.as_ref().is_some_and(|tls| tls.require_client_certificates);
        note(
            (guarded || !self.protect_reads).then_some(()).ok_or_else(|| {
                "ProtectReads needs a shared secret, or TLS with client certificates".to_owned()
            }),
        );
        let health = self.health;
        let positive =
            health.failure_threshold > 0 && !health.interval.is_zero() && !health.timeout.is_zero();
        note(positive.then_some(()).ok_or_else(|| {
            "HealthCheck: interval, timeout and failure threshold must be greater than 0".to_owned()
        }));
        let raft_listen = raft_addr.map_err(|problem| problems.push(problem)).ok();
        let raft_addr = match (&raft_listen, self.advertise_raft_addr.as_str()) {
            (Some(listen), "") => routable(listen).map_err(|problem| problems.push(problem)).ok(),
            (_, text) => Some(text.to_owned()),
        };
        let (Some(id), Some(raft_listen), Some(raft_addr), true) =
            (node_id, raft_listen, raft_addr, problems.is_empty())
        else {
            return Err(OptionsError(problems));
        };
        let name = if self.node_name.is_empty() { default_node_name(&id) } else { self.node_name.clone() };
        let node = Node {
            id,
            ip: self.http_addr.clone(),
            port: 0,
            name,
            status: STATUS_ACTIVE.to_owned(),
            services: self.services.clone(),
            advertise_addr: (!self.advertise_addr.is_empty()).then(|| self.advertise_addr.clone()),
        };
        node.check().map_err(|error| OptionsError(vec![error.to_string()]))?;
        let (http_listen, raft_listen) = (listen(&self.http_addr), listen(&raft_listen));
        Ok(Settings { node, http_listen, raft_listen, raft_addr, cluster, options: self })
    }
}

/// An address that means the same on every machine, or this one if it says so.
fn routable(listen: &str) -> Result<String, String> {
    if listen.starts_with("0.0.0.0:") || listen.starts_with("[::]:") {
        return Err(format!("RaftAddr {listen} is no address others can reach: set AdvertiseRaftAddr"));
    }
    Ok(if listen.starts_with(':') { format!("127.0.0.1{listen}") } else { listen.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Options, Settings};

    fn check(options: Options) -> Result<Settings, String> {
        options.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_missing_is_said_in_the_known_words() {
        let said = check(Options::default()).unwrap_err();
        assert_eq!(said, "NodeID is required\nHTTPAddr is required");
    }

    #[test]
    fn the_rest_has_defaults() {
        let settings = check(Options::new("node-1", ":8080")).unwrap();
        assert_eq!((settings.node.name.as_str(), settings.node.ip.as_str()), ("Server-1", ":8080"));
        assert_eq!((settings.cluster.partition_count, settings.cluster.replication_factor), (16, 3));
        assert_eq!(settings.cluster.cluster_name, "clusterkit-cluster");
        assert_eq!(settings.http_listen, "0.0.0.0:8080");
    }

    #[test]
    fn raft_addresses_follow_from_http_addresses() {
        for (http, raft) in [
            (":8080", "127.0.0.1:10001"),
            (":8081", "127.0.0.1:10002"),
            (":18080", "127.0.0.1:20001"),
            ("10.0.0.5:8080", "10.0.0.5:10001"),
        ] {
            assert_eq!(check(Options::new("n", http)).unwrap().raft_addr, raft);
        }
        assert!(check(Options::new("n", ":64000")).unwrap_err().contains("set RaftAddr"));
    }

    #[test]
    fn an_address_that_means_another_machine_everywhere_is_refused_early() {
        let options = || Options { raft_addr: "0.0.0.0:9001".to_owned(), ..Options::new("n", ":8080") };
        assert!(check(options()).unwrap_err().contains("set AdvertiseRaftAddr"));
        let advertise_raft_addr = "10.0.0.5:9001".to_owned();
        let settings = check(Options { advertise_raft_addr, ..options() }).unwrap();
        assert_eq!(
            (settings.raft_addr.as_str(), settings.raft_listen.as_str()),
            ("10.0.0.5:9001", "0.0.0.0:9001")
        );
    }

    #[test]
    fn all_problems_are_reported_together() {
        let said = check(Options {
            cluster_name: "../c".to_owned(),
            join_addrs: vec!["http://h".to_owned()],
            services: [("kv".to_owned(), "9080".to_owned())].into(),
            ..Options::new("a/b", "host")
        })
        .unwrap_err();
        for part in ["node id", "HTTPAddr", "JoinAddr", "invalid service address", "cluster name"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
}
