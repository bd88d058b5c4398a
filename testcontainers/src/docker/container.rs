//! What a container is asked to be: image, command, mounts, network, labels.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{HostConfig, PortBinding};
use testcontainers::core::{ContainerPort, IntoContainerPort};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

use super::engine::Engine;
use super::{image, sweep};
use crate::backend::Backend;
use crate::options::ContainerNetwork;
use crate::server::{Layout, kafka, nats};
use crate::workspace::Workspace;

/// Where a container sees its configuration and its data.
const CONFIG_DIR: &str = "/queuebench/config";
pub(crate) const DATA_DIR: &str = "/queuebench/data";

/// The entrypoint, if it is not the image's own, and the arguments.
pub(crate) fn command(backend: Backend, layout: &Layout) -> (Option<&'static str>, Vec<String>) {
    match backend {
        // The entrypoint of the official image (and of its Alpine variant) hands arguments to the server.
        Backend::Nats => (None, vec!["-c".to_owned(), format!("{CONFIG_DIR}/{}", nats::CONFIG_FILE)]),
        // Without an image of its own (`image.rs`), it does not come this far.
        Backend::Etcd | Backend::Kv => (None, Vec::new()),
        // The official image's own entrypoint rewrites the configuration from variables and needs to write
        // into the image; the distribution's scripts below it do not.
        Backend::Kafka => {
            let config = format!("{CONFIG_DIR}/{}", kafka::CONFIG_FILE);
            let script = format!(
                "test -f {DATA_DIR}/meta.properties || \
                 /opt/kafka/bin/kafka-storage.sh format -t {id} -c {config} || exit 1; \
                 exec /opt/kafka/bin/kafka-server-start.sh {config}",
                id = layout.identity,
            );
            (Some("/bin/sh"), vec!["-c".to_owned(), script])
        }
    }
}

fn environment(backend: Backend) -> Vec<(&'static str, String)> {
    match backend {
        Backend::Nats | Backend::Etcd | Backend::Kv => Vec::new(),
        Backend::Kafka => vec![
            ("KAFKA_HEAP_OPTS", kafka::HEAP.to_owned()),
            ("KAFKA_JVM_PERFORMANCE_OPTS", kafka::JVM.to_owned()),
            (
                "KAFKA_LOG4J_OPTS",
                format!("-Dlog4j2.configurationFile={CONFIG_DIR}/{}", kafka::LOG_CONFIG_FILE),
            ),
            // The distribution's script writes its collector's log there.
            ("LOG_DIR", "/tmp/kafka-logs".to_owned()),
        ],
    }
}

/// The request for one server.
pub(crate) fn request(
    engine: &Engine,
    workspace: &Workspace,
    layout: &Layout,
    image: &str,
    network: ContainerNetwork,
    run_label: &str,
    start_limit: Duration,
) -> ContainerRequest<GenericImage> {
    let (entrypoint, arguments) = command(workspace.backend, layout);
    let mut image = image::generic(image);
    if let Some(entrypoint) = entrypoint {
        image = image.with_entrypoint(entrypoint);
    }
    let mut request = image
        .with_cmd(arguments)
        .with_container_name(format!("queuebench-{}", workspace.unique_name))
        .with_labels([
            (sweep::RUN, run_label),
            (sweep::OWNER, sweep::owner_label().as_str()),
            (sweep::SERVER, workspace.unique_name.as_str()),
        ])
        .with_startup_timeout(start_limit);
    for (name, value) in environment(workspace.backend) {
        request = request.with_env_var(name, value);
    }
    let published = published(workspace.backend, layout);
    if network == ContainerNetwork::Host {
        request = request.with_network("host");
    } else {
        for &port in &published {
            request = request.with_mapped_port(port, port.tcp());
        }
    }
    if engine.remaps_users {
        request = request.with_userns_mode("host");
    }
    let binds =
        vec![bind(&workspace.config_dir, CONFIG_DIR, "ro,z"), bind(&workspace.data_dir, DATA_DIR, "z")];
    request.with_user(user(engine)).with_host_config_modifier(move |config: &mut HostConfig| {
        config.binds = Some(binds.clone());
        if network == ContainerNetwork::Published {
            config.publish_all_ports = Some(false);
            config.port_bindings = Some(on_loopback(&published));
        }
    })
}

/// The side port of Kafka is its controller's, which nobody outside needs.
fn published(backend: Backend, layout: &Layout) -> Vec<u16> {
    match backend {
        Backend::Nats => vec![layout.port, layout.side_port],
        Backend::Kafka | Backend::Etcd | Backend::Kv => vec![layout.port],
    }
}

fn on_loopback(ports: &[u16]) -> HashMap<String, Option<Vec<PortBinding>>> {
    ports
        .iter()
        .map(|&port| {
            let binding =
                PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
            (ContainerPort::Tcp(port).to_string(), Some(vec![binding]))
        })
        .collect()
}

/// The user of this process, who owns the mounted directories; a rootless engine calls that one root.
fn user(engine: &Engine) -> String {
    if engine.rootless {
        "0:0".to_owned()
    } else {
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        format!("{}:{}", user.as_raw(), group.as_raw())
    }
}

/// `z` lets containers read it where SELinux guards, and means nothing elsewhere.
fn bind(host: &Path, container: &str, mode: &str) -> String {
    format!("{}:{container}:{mode}", host.display())
}
