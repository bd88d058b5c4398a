//! Kafka: the broker is in its own cluster's metadata, and a group finds its coordinator.
//!
//! The second question also makes the broker create its offsets topic, so that the first consumer of a run
//! does not pay for that. The client blocks, so it lives on a blocking thread, which ends within
//! [`ATTEMPT`] of its caller's losing interest.

mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{NotReady, Ready, Target};
use crate::external::Credentials;

/// The longest that one question may take.
const ATTEMPT: Duration = Duration::from_secs(1);

pub(crate) async fn until_ready(target: &Target<'_>, limit: Duration) -> Result<Ready, NotReady> {
    let config = config(target.address, target.credentials);
    let identity = target.identity.map(str::to_owned);
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancelled));
    tokio::task::spawn_blocking(move || ask(&config, identity.as_deref(), limit, &cancelled))
        .await
        .unwrap_or_else(|error| Err(NotReady::Never(format!("the probe failed: {error}"))))?;
    let is_plain = target.credentials.security_protocol.as_deref().is_none_or(|name| !name.contains("SSL"));
    let states_in_log = target.identity.is_some();
    let version = if is_plain && !states_in_log { version::ask(target.address).await } else { None };
    Ok(Ready { version })
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask(
    config: &ClientConfig,
    identity: Option<&str>,
    limit: Duration,
    cancelled: &AtomicBool,
) -> Result<(), NotReady> {
    let deadline = Instant::now() + limit;
    let consumer: BaseConsumer =
        config.create().map_err(|error: KafkaError| NotReady::Never(error.to_string()))?;
    let mut last = "no answer".to_owned();
    while !cancelled.load(Ordering::Relaxed) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match attempt(&consumer, identity, left.min(ATTEMPT)) {
            Ok(()) => return Ok(()),
            Err(reason) => last = reason,
        }
        // Some refusals come at once; the pause bounds how often they are asked for.
        std::thread::sleep(Duration::from_millis(50).min(left));
    }
    Err(NotReady::Yet(last))
}

fn attempt(consumer: &BaseConsumer, identity: Option<&str>, limit: Duration) -> Result<(), String> {
    let metadata = consumer.fetch_metadata(None, limit).map_err(|error| error.to_string())?;
    if metadata.brokers().is_empty() {
        return Err("the metadata names no broker".to_owned());
    }
    if let Some(identity) = identity {
        let cluster = consumer.client().fetch_cluster_id(limit).unwrap_or_default();
        if cluster != identity {
            return Err(format!("another cluster answers, `{cluster}`"));
        }
        let mut group = TopicPartitionList::new();
        group
            .add_partition_offset("queuebench-probe", 0, Offset::Invalid)
            .map_err(|error| error.to_string())?;
        consumer
            .committed_offsets(group, limit)
            .map_err(|error| format!("the group coordinator does not answer: {error}"))?;
    }
    Ok(())
}

fn config(address: &str, credentials: &Credentials) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("group.id", "queuebench-probe")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .set("socket.connection.setup.timeout.ms", "2000")
        .set("allow.auto.create.topics", "false");
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    for (key, value) in [
        ("security.protocol", credentials.security_protocol.clone()),
        ("sasl.mechanism", credentials.sasl_mechanism.clone()),
        ("sasl.username", credentials.user.clone()),
        ("sasl.password", credentials.password.clone()),
        ("ssl.ca.location", path(&credentials.tls_ca)),
        ("ssl.certificate.location", path(&credentials.tls_certificate)),
        ("ssl.key.location", path(&credentials.tls_key)),
    ] {
        if let Some(value) = value {
            config.set(key, value);
        }
    }
    config
}
