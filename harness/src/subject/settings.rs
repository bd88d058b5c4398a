//! From a request, the profile and the servers' addresses to a queue's settings.

use queuebench_system::queue::composite::CompositeConfig;
use queuebench_system::queue::kafka::KafkaConfig;
use queuebench_system::queue::memory::{FullPolicy, MemoryConfig};
use queuebench_system::queue::nats::{NatsConfig, NatsRetention, NatsStorage};
use queuebench_system::queue::{Durability, QueueConfig};
use queuebench_testcontainers::{External, Running};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pipeline::PipelineConfig;
use super::{Backend, SettingsError, SubjectRequest};
use crate::cluster::{ClusterConfig, ClusterOperation};
use crate::profile::{Keys, Profile};
use crate::store::{StoreConfig, StoreOperation};

/// A queue's settings, ready to open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectConfig {
    /// The null subject.
    Null,
    /// The in-process queue.
    Memory(MemoryConfig),
    /// NATS JetStream.
    Nats(Box<NatsConfig>),
    /// Apache Kafka.
    Kafka(Box<KafkaConfig>),
    /// NATS and Kafka at once.
    Composite(CompositeConfig<QueueConfig>),
    /// The whole pipeline over a queue.
    Pipeline(PipelineConfig),
}

/// Where the servers of a subject are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses<'a> {
    /// A NATS server.
    pub nats: Option<&'a Running>,
    /// A Kafka broker.
    pub kafka: Option<&'a Running>,
    /// The members of a store.
    pub members: &'a [Running],
}

/// Messages that a memory queue holds unless told otherwise: at 10,000/s, a second of consumers' absence.
const MEMORY_CAPACITY: usize = 10_000;

/// The settings of `request` for one trial, as JSON that [`SubjectConfig`] reads. Everything the trial
/// creates on a server carries `name`.
///
/// JSON rather than the type itself, because a typed configuration does not write its secrets.
///
/// # Errors
/// When an override is unknown or impossible.
pub fn configure(
    request: &SubjectRequest,
    profile: &Profile,
    addresses: Addresses<'_>,
    name: &str,
) -> Result<Value, SettingsError> {
    if request.backend.is_store() {
        return configure_store(request, profile, addresses.members, name);
    }
    if request.backend == Backend::Cluster {
        return configure_cluster(request, profile, name);
    }
    let in_flight = profile.max_in_flight() as usize;
    if let Some(queue) = request.backend.of_pipeline() {
        return pipeline(request, profile, queue);
    }
    let durability = request.durability.unwrap_or(match request.backend {
        Backend::Memory | Backend::Null => Durability::Volatile,
        _ => Durability::ProcessCrash,
    });
    let base = match request.backend {
        // Stores and clusters are configured above.
        Backend::Null | Backend::Kv | Backend::Etcd | Backend::Cluster => SubjectConfig::Null,
        Backend::Memory => SubjectConfig::Memory(MemoryConfig {
            capacity: MEMORY_CAPACITY.max(in_flight),
            full: FullPolicy::Wait,
            ..MemoryConfig::default()
        }),
        Backend::Nats => SubjectConfig::Nats(Box::new(nats(profile, addresses.nats, durability, name))),
        Backend::Kafka => SubjectConfig::Kafka(Box::new(kafka(profile, addresses.kafka, durability, name))),
        Backend::Composite => {
            let children = vec![
                QueueConfig::Nats(Box::new(nats(profile, addresses.nats, durability, name))),
                QueueConfig::Kafka(Box::new(kafka(profile, addresses.kafka, durability, name))),
            ];
            SubjectConfig::Composite(CompositeConfig {
                max_in_flight: profile.max_in_flight(),
                ..CompositeConfig::new(children)
            })
        }
        other => unreachable!("{other} is a pipeline and was handled above"),
    };
    let refuse = |reason: String| SettingsError::Override { subject: request.name.clone(), reason };
    let mut value = serde_json::to_value(&base).map_err(|e| refuse(e.to_string()))?;
    overlay(&mut value, request.backend, &request.overrides).map_err(refuse)?;
    for (backend, server) in [(Backend::Nats, addresses.nats), (Backend::Kafka, addresses.kafka)] {
        if let Some(external) = server.and_then(Running::external_access)
            && let Some(settings) = settings_of(&mut value, backend)
        {
            secrets(settings, backend, external);
        }
    }
    // A wrong override is found before anything is started with it.
    serde_json::from_value::<SubjectConfig>(value.clone()).map_err(|e| refuse(e.to_string()))?;
    Ok(value)
}

/// The pipeline's settings. The addresses of its services are filled in when they run.
fn pipeline(request: &SubjectRequest, profile: &Profile, queue: Backend) -> Result<Value, SettingsError> {
    let refuse = |reason: String| SettingsError::Override { subject: request.name.clone(), reason };
    let promised = if queue == Backend::Memory { Durability::Volatile } else { Durability::ProcessCrash };
    if request.durability.is_some_and(|wanted| wanted != promised) {
        return Err(refuse(format!("what {} acknowledges survives {promised:?}", request.backend)));
    }
    if profile.workload.groups > 1 {
        return Err(refuse("a pipeline processes each message once: `workload.groups` must be 1".to_owned()));
    }
    if profile.workload.topics > 1 {
        return Err(refuse("a pipeline has one way in: `workload.topics` must be 1".to_owned()));
    }
    let mut config = serde_json::to_value(PipelineConfig::over(queue)).map_err(|e| refuse(e.to_string()))?;
    for (key, setting) in &request.overrides {
        if let Some(settings) = config.as_object_mut() {
            settings.insert(key.clone(), serde_json::to_value(setting).map_err(|e| refuse(e.to_string()))?);
        }
    }
    let config: PipelineConfig = serde_json::from_value(config).map_err(|e| refuse(e.to_string()))?;
    config.validate().map_err(refuse)?;
    serde_json::to_value(SubjectConfig::Pipeline(config)).map_err(|e| refuse(e.to_string()))
}

/// The settings of a store, as JSON that [`StoreConfig`] reads, under the key `store`.
fn configure_store(
    request: &SubjectRequest,
    profile: &Profile,
    members: &[Running],
    name: &str,
) -> Result<Value, SettingsError> {
    let refuse = |reason: String| SettingsError::Override { subject: request.name.clone(), reason };
    if request.durability.is_some_and(|wanted| wanted != Durability::PowerLoss) {
        return Err(refuse(
            "both stores flush before they answer: what they acknowledge survives power-loss".to_owned(),
        ));
    }
    if profile.workload.keys == Keys::None {
        return Err(refuse("a store needs keys in the profile's workload".to_owned()));
    }
    for phase in &profile.phases {
        StoreOperation::of_phase(phase.operation.as_deref())
            .map_err(|reason| refuse(format!("phase `{}`: {reason}", phase.name)))?;
    }
    let mut store = serde_json::json!({
        "api": request.backend.name(),
        "endpoints": members.iter().map(Running::address).collect::<Vec<_>>(),
        "prefix": name,
    });
    for (key, setting) in &request.overrides {
        store[key] = serde_json::to_value(setting).map_err(|e| refuse(e.to_string()))?;
    }
    let typed: StoreConfig = serde_json::from_value(store).map_err(|e| refuse(e.to_string()))?;
    Ok(serde_json::json!({ "store": typed }))
}

/// The settings of a cluster, as JSON that [`ClusterConfig`] reads, under the key `cluster`. Where its nodes
/// are is filled in when they run.
fn configure_cluster(
    request: &SubjectRequest,
    profile: &Profile,
    name: &str,
) -> Result<Value, SettingsError> {
    let refuse = |reason: String| SettingsError::Override { subject: request.name.clone(), reason };
    if request.durability.is_some_and(|wanted| wanted != Durability::PowerLoss) {
        return Err(refuse(
            "a cluster flushes before it answers: what it acknowledges survives power-loss".to_owned(),
        ));
    }
    if profile.workload.keys == Keys::None {
        return Err(refuse("a cluster needs keys in the profile's workload".to_owned()));
    }
    if profile.faults.iter().any(|fault| fault.target.is_none()) {
        return Err(refuse(
            "a fault must name the node: `target` is cluster-follower or cluster-leader".to_owned(),
        ));
    }
    for phase in &profile.phases {
        ClusterOperation::of_phase(phase.operation.as_deref())
            .map_err(|reason| refuse(format!("phase `{}`: {reason}", phase.name)))?;
    }
    let mut cluster = serde_json::json!({ "prefix": name });
    for (key, setting) in &request.overrides {
        if ClusterConfig::PLACES.contains(&key.as_str()) {
            return Err(refuse(format!("`{key}` is filled in for each trial")));
        }
        cluster[key] = serde_json::to_value(setting).map_err(|e| refuse(e.to_string()))?;
    }
    let typed: ClusterConfig = serde_json::from_value(cluster).map_err(|e| refuse(e.to_string()))?;
    typed.validate().map_err(refuse)?;
    Ok(serde_json::json!({ "cluster": typed }))
}

/// The settings of a backend in a subject's configuration: its own, or those of a composite's child.
fn settings_of(value: &mut Value, backend: Backend) -> Option<&mut Value> {
    if value.get(backend.name()).is_some() {
        return value.get_mut(backend.name());
    }
    let children = value.get_mut("composite")?.get_mut("children")?.as_array_mut()?;
    children.iter_mut().find_map(|child| child.get_mut(backend.name()))
}

/// Puts the profile's settings over the defaults; in a composite's table, `nats` and `kafka` are tables for
/// its children. Keys are checked by the type that reads them.
fn overlay(value: &mut Value, backend: Backend, overrides: &toml::Table) -> Result<(), String> {
    for (key, setting) in overrides {
        let child = Backend::ALL.into_iter().find(|b| backend == Backend::Composite && b.name() == key);
        if let (Some(child), Some(table)) = (child, setting.as_table()) {
            overlay(value, child, table)?;
            continue;
        }
        let settings = settings_of(value, backend).and_then(Value::as_object_mut);
        let settings = settings.ok_or_else(|| format!("{backend} has no settings here"))?;
        settings.insert(key.clone(), serde_json::to_value(setting).map_err(|e| e.to_string())?);
    }
    Ok(())
}

fn nats(profile: &Profile, server: Option<&Running>, durability: Durability, name: &str) -> NatsConfig {
    let default = NatsConfig::default();
    NatsConfig {
        servers: server.map_or(default.servers.clone(), |s| {
            s.address()
                .split(',')
                .map(|a| if a.contains("://") { a.to_owned() } else { format!("nats://{a}") })
                .collect()
        }),
        stream: name.to_owned(),
        subject: format!("{name}.messages"),
        storage: if durability == Durability::Volatile { NatsStorage::Memory } else { NatsStorage::File },
        retention: NatsRetention::Limits,
        durability,
        max_in_flight: (profile.max_in_flight() as usize).max(1),
        monitor_url: server.and_then(Running::monitoring_url),
        ..default
    }
}

fn kafka(profile: &Profile, server: Option<&Running>, durability: Durability, name: &str) -> KafkaConfig {
    let default = KafkaConfig::default();
    KafkaConfig {
        brokers: server.map_or(default.brokers.clone(), |s| s.address().to_owned()),
        topic: name.to_owned(),
        partitions: u32::from(profile.workload.partitions),
        // Kafka's weakest promise is the page cache; asking for less gives that.
        durability: durability.max(Durability::ProcessCrash),
        max_in_flight: (profile.max_in_flight() as usize).max(1),
        ..default
    }
}

/// What an external server asks for.
fn secrets(value: &mut Value, backend: Backend, external: &External) {
    let credentials = &external.credentials;
    let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.display().to_string());
    match backend {
        Backend::Nats => {
            let auth = match (
                &credentials.user,
                &credentials.password,
                &credentials.token,
                &credentials.credentials_file,
            ) {
                (Some(user), Some(password), ..) => {
                    Some(serde_json::json!({"user-password": {"user": user, "password": password}}))
                }
                (.., Some(token), _) => Some(serde_json::json!({"token": token})),
                (.., Some(file)) => Some(serde_json::json!({"credentials-file": file})),
                _ => None,
            };
            if let Some(auth) = auth {
                value["auth"] = auth;
            }
            if credentials.tls_ca.is_some() || credentials.tls_certificate.is_some() {
                value["tls"] = serde_json::json!({
                    "ca_file": path(&credentials.tls_ca),
                    "cert_file": path(&credentials.tls_certificate),
                    "key_file": path(&credentials.tls_key),
                });
            }
        }
        Backend::Kafka => {
            if let (Some(user), Some(password)) = (&credentials.user, &credentials.password) {
                value["sasl"] = serde_json::json!({
                    "mechanism": credentials.sasl_mechanism.as_deref().unwrap_or("PLAIN"),
                    "username": user,
                    "password": password,
                });
            }
            let tls = credentials.security_protocol.as_deref().is_some_and(|p| p.contains("SSL"));
            if tls || credentials.tls_ca.is_some() {
                value["tls"] = serde_json::json!({
                    "ca": path(&credentials.tls_ca),
                    "certificate": path(&credentials.tls_certificate),
                    "key": path(&credentials.tls_key),
                });
            }
        }
        _ => {}
    }
}
