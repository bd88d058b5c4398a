//! Settings of the Kafka backend: what a user writes, its defaults and why, and what it becomes for
//! librdkafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::BACKEND;
use super::secret::Secret;
use crate::queue::{Durability, QueueError};

/// Room for the batch header, keys and headers beside the largest payload.
pub(super) const ENVELOPE_BYTES: usize = 64 * 1024;

/// One topic of one Kafka cluster and how this client works with it.
///
/// Unknown keys are refused. All defaults are those of [`KafkaConfig::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port` separated by commas. Default `127.0.0.1:9092`.
    pub brokers: String,
    /// The topic. Created when it is not there, else compared with these settings and never changed.
    /// Default `queuebench`.
    pub topic: String,
    /// Partitions of the topic; messages of one key go to one partition. Default 4.
    pub partitions: u32,
    /// Take a topic that is there with whatever number of partitions it has, rather than refuse one with another
    /// number than `partitions`. Default off.
    pub any_partitions: bool,
    /// Replicas of each partition. Default 1.
    pub replication: u16,
    /// What an acknowledgement survives: `process-crash` (page cache, the default) or `power-loss`, which
    /// sets the topic's `flush.messages=1`: the log is flushed before each batch is acknowledged.
    pub durability: Durability,
    /// Further settings of the topic (`retention.ms`, `min.insync.replicas`, …), applied when it is
    /// created and compared when it was there. Default none.
    pub topic_settings: BTreeMap<String, String>,
    /// The largest payload. The topic is created with room for it. Default 1 MiB.
    pub max_payload_bytes: usize,

    /// The most messages without an outcome, per publisher; at the bound `publish` waits. Default 10,000:
    /// more only lengthens the time in our own queue (at 1 KiB: p50 13 ms against 86 ms at 100,000),
    /// except for the highest rate at 100 B, which wants 100,000.
    pub max_in_flight: usize,
    /// The most bytes waiting in librdkafka, per publisher. Default 256 MiB.
    pub max_in_flight_bytes: usize,
    /// How long a batch waits for company. Default 1: from some 5,000 messages/s on it has the same p50
    /// and p95 as 0 at a third of the CPU. For fewer messages 0 answers sooner; for the highest rate
    /// take 5.
    pub linger_ms: u32,
    /// The largest batch. Default 1 MiB: at 16 KiB, Kafka's own default, requests are the cost, and 1 KiB
    /// messages go at a quarter of the rate.
    pub batch_bytes: usize,
    /// The most messages of a batch. Default 100,000, so that `batch_bytes` decides.
    pub batch_messages: u32,
    /// Compression of batches. Default none.
    pub compression: Compression,
    /// After this long without an answer a message's outcome is unknown. Default 30,000.
    pub delivery_timeout_ms: u32,
    /// After this long without an answer a request is sent again (without duplicates, as the producer is
    /// idempotent). Default 10,000.
    pub request_timeout_ms: u32,
    /// Publish in transactions and read only what is committed. Default off.
    pub transactions: Option<Transactions>,

    /// After this long without a heartbeat a consumer is taken for dead. Default 20,000.
    pub session_timeout_ms: u32,
    /// How often processed offsets are committed. Default 1,000.
    pub commit_interval_ms: u32,
    /// How long the broker may wait for data before it answers a fetch. Default 500.
    pub fetch_wait_ms: u32,

    /// The limit on connecting, creating the topic and joining a group. Default 10,000.
    pub connect_timeout_ms: u32,
    /// Encrypt the connection. Needs the cargo feature `kafka-tls`. Default off.
    pub tls: Option<Tls>,
    /// Log in. Default off.
    pub sasl: Option<Sasl>,
    /// Further librdkafka properties, for both directions. Those that this backend's promises rest on
    /// are refused. Default none.
    pub properties: BTreeMap<String, String>,
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// Gzip: small and slow.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4: the cheapest.
    Lz4,
}

/// The exactly-once mode: messages become visible in groups, all of a group or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transactions {
    /// Names the producer across restarts: a new one fences the old one. Each publisher of a queue appends
    /// its number (`name-0`, `name-1`).
    pub transactional_id: String,
    /// Commit at this many messages. Default 1,000.
    #[serde(default = "Transactions::default_max_messages")]
    pub max_messages: usize,
    /// Commit at this age of the first message. Default 50.
    #[serde(default = "Transactions::default_interval_ms")]
    pub interval_ms: u32,
    /// The broker aborts a transaction that is open this long. Default 30,000.
    #[serde(default = "Transactions::default_timeout_ms")]
    pub timeout_ms: u32,
}

impl Transactions {
    /// The defaults under an id.
    pub fn new(transactional_id: impl Into<String>) -> Self {
        Self {
            transactional_id: transactional_id.into(),
            max_messages: Self::default_max_messages(),
            interval_ms: Self::default_interval_ms(),
            timeout_ms: Self::default_timeout_ms(),
        }
    }

    fn default_max_messages() -> usize {
        1_000
    }

    fn default_interval_ms() -> u32 {
        50
    }

    fn default_timeout_ms() -> u32 {
        30_000
    }
}

/// Encryption, and who the two ends are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates to trust, PEM. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate, PEM, where the broker asks for one.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// The key's password.
    pub key_password: Option<Secret>,
    /// Do not check that the certificate names the host. Default false.
    pub skip_host_check: bool,
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How.
    pub mechanism: SaslMechanism,
    /// Who.
    pub username: String,
    /// Never printed.
    pub password: Secret,
}

/// How to log in. `PLAIN` is in every build; the SCRAM mechanisms need the cargo feature `kafka-tls`,
/// because librdkafka takes its hash functions from OpenSSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// Name and password as they are.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self::new("127.0.0.1:9092", "queuebench")
    }
}

/// Properties on which the promises of this backend rest.
const RESERVED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "retries",
    "transactional.id",
];

impl KafkaConfig {
    /// The defaults for a topic of a cluster.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            partitions: 4,
            any_partitions: false,
            replication: 1,
            durability: Durability::ProcessCrash,
            topic_settings: BTreeMap::new(),
            max_payload_bytes: 1024 * 1024,
            max_in_flight: 10_000,
            max_in_flight_bytes: 256 * 1024 * 1024,
            linger_ms: 1,
            batch_bytes: 1024 * 1024,
            batch_messages: 100_000,
            compression: Compression::None,
            delivery_timeout_ms: 30_000,
            request_timeout_ms: 10_000,
            transactions: None,
            session_timeout_ms: 20_000,
            commit_interval_ms: 1_000,
            fetch_wait_ms: 500,
            connect_timeout_ms: 10_000,
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// [`QueueError::Setting`] naming the first setting that is impossible and what would be right.
    pub fn validate(&self) -> Result<(), QueueError> {
        let wrong = |setting, reason: String| Err(QueueError::Setting { backend: BACKEND, setting, reason });
        if self.brokers.split(',').any(|broker| broker.trim().is_empty()) {
            return wrong("brokers", "want host:port, separated by commas".to_owned());
        }
        if let Some(reason) = topic_name_fault(&self.topic) {
            return wrong("topic", reason);
        }
        if self.partitions == 0 || i32::try_from(self.partitions).is_err() {
            return wrong(
                "partitions",
                format!("{} is not a number of partitions; want 1 or more", self.partitions),
            );
        }
        if self.replication == 0 || i16::try_from(self.replication).is_err() {
            return wrong(
                "replication",
                format!("{} is not a number of replicas; want 1 or more", self.replication),
            );
        }
        if self.durability == Durability::Volatile {
            return wrong("durability", "kafka writes a log; want process-crash or power-loss".to_owned());
        }
        if self.durability == Durability::PowerLoss
            && self.topic_settings.get("flush.messages").is_some_and(|messages| messages != "1")
        {
            return wrong("topic_settings", "durability power-loss needs flush.messages=1".to_owned());
        }
        // librdkafka's own bound on message.max.bytes is 1,000,000,000.
        if self.max_payload_bytes == 0 || self.max_payload_bytes > 900_000_000 {
            return wrong(
                "max_payload_bytes",
                format!("{} is not within 1 and 900000000", self.max_payload_bytes),
            );
        }
        if self.max_in_flight == 0 || self.max_in_flight > 1_000_000 {
            return wrong("max_in_flight", format!("{} is not within 1 and 1000000", self.max_in_flight));
        }
        if self.max_in_flight_bytes < 2 * (self.max_payload_bytes + ENVELOPE_BYTES) {
            return wrong("max_in_flight_bytes", "want room for two of the largest messages".to_owned());
        }
        if self.linger_ms >= self.delivery_timeout_ms {
            return wrong("linger_ms", "want less than delivery_timeout_ms".to_owned());
        }
        if self.batch_bytes == 0 || i32::try_from(self.batch_bytes).is_err() {
            return wrong("batch_bytes", format!("{} is not within 1 and 2147483647", self.batch_bytes));
        }
        if self.batch_messages == 0 || self.batch_messages > 1_000_000 {
            return wrong("batch_messages", format!("{} is not within 1 and 1000000", self.batch_messages));
        }
        if self.request_timeout_ms == 0 || self.request_timeout_ms > 900_000 {
            return wrong(
                "request_timeout_ms",
                format!("{} is not within 1 and 900000", self.request_timeout_ms),
            );
        }
        if self.session_timeout_ms < 6_000 {
            return wrong("session_timeout_ms", "brokers accept 6000 and more".to_owned());
        }
        if self.connect_timeout_ms == 0 {
            return wrong("connect_timeout_ms", "want 1 or more".to_owned());
        }
        if let Some(transactions) = &self.transactions {
            if transactions.transactional_id.is_empty() {
                return wrong("transactions.transactional_id", "want a name".to_owned());
            }
            if transactions.max_messages == 0 || transactions.max_messages > self.max_in_flight {
                return wrong(
                    "transactions.max_messages",
                    "want 1 to max_in_flight: what is in flight is one transaction at most".to_owned(),
                );
            }
            if transactions.interval_ms == 0 || transactions.interval_ms >= transactions.timeout_ms {
                return wrong(
                    "transactions.interval_ms",
                    "want 1 or more and less than timeout_ms".to_owned(),
                );
            }
        }
        if let Some(name) = self.properties.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(QueueError::Setting {
                backend: BACKEND,
                setting: "properties",
                reason: format!("`{name}` is set by this backend, which rests its promises on it"),
            });
        }
        self.validate_security()
    }

    /// What this build of librdkafka cannot do is said here, not by a broker that does not answer.
    fn validate_security(&self) -> Result<(), QueueError> {
        let needs_tls = |setting, what: &str| QueueError::Setting {
            backend: BACKEND,
            setting,
            reason: format!(
                "{what} needs a build with the cargo feature `kafka-tls`; this librdkafka has: {}",
                builtin_features()
            ),
        };
        let has = |feature: &str| builtin_features().split(',').any(|built_in| built_in == feature);
        if self.tls.is_some() && !has("ssl") {
            return Err(needs_tls("tls", "TLS"));
        }
        match self.sasl.as_ref().map(|sasl| sasl.mechanism) {
            Some(SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512) if !has("sasl_scram") => {
                Err(needs_tls("sasl.mechanism", "SCRAM"))
            }
            Some(SaslMechanism::Plain) if !has("sasl_plain") => Err(needs_tls("sasl.mechanism", "PLAIN")),
            _ => Ok(()),
        }
    }

    /// The limit on connecting and on administrative requests.
    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.into())
    }

    /// The largest record with key, headers and batch header.
    pub(super) fn max_record_bytes(&self) -> usize {
        // Kafka's own default, so that small limits do not shrink the topic's batches.
        (self.max_payload_bytes + ENVELOPE_BYTES).max(1_048_588)
    }

    /// The settings the topic must have.
    pub(super) fn wanted_topic_settings(&self) -> BTreeMap<String, String> {
        let mut wanted = self.topic_settings.clone();
        if self.durability == Durability::PowerLoss {
            wanted.insert("flush.messages".to_owned(), "1".to_owned());
        }
        wanted
    }

    /// Properties of every client.
    fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "queuebench")
            .set("socket.keepalive.enable", "true")
            // A broker that restarts is back in a second or two; the default waits up to ten.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("message.max.bytes", self.max_record_bytes().to_string());
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ];
            for (property, path) in files {
                if let Some(path) = path {
                    config.set(property, path.to_string_lossy());
                }
            }
            if let Some(password) = &tls.key_password {
                config.set("ssl.key.password", password.reveal());
            }
            if tls.skip_host_check {
                config.set("ssl.endpoint.identification.algorithm", "none");
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.reveal());
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// Properties of the administrative client.
    pub(super) fn admin(&self) -> ClientConfig {
        self.common()
    }

    /// Properties of a producer; `number` tells a queue's transactional producers apart.
    pub(super) fn producer(&self, number: usize) -> ClientConfig {
        let mut config = self.common();
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
        };
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // The same partition for a key as the Java clients choose; no key: any partition.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", self.linger_ms.to_string())
            .set("batch.size", self.batch_bytes.to_string())
            .set("batch.num.messages", self.batch_messages.to_string())
            .set("compression.type", compression)
            // Messages are counted until their delivery report is destroyed, which is after our callback
            // has let the next ones in; hence twice the window.
            .set("queue.buffering.max.messages", (2 * self.max_in_flight).to_string())
            .set("queue.buffering.max.kbytes", (self.max_in_flight_bytes / 1024).to_string())
            .set("request.timeout.ms", self.request_timeout_ms.min(self.delivery_timeout_ms).to_string())
            .set("delivery.timeout.ms", self.delivery_timeout_ms.to_string())
            .set("statistics.interval.ms", super::stats::INTERVAL_MS.to_string());
        if let Some(transactions) = &self.transactions {
            let timeout_ms = transactions.timeout_ms;
            config
                .set("transactional.id", format!("{}-{number}", transactions.transactional_id))
                .set("transaction.timeout.ms", timeout_ms.to_string())
                .set("delivery.timeout.ms", self.delivery_timeout_ms.min(timeout_ms).to_string());
        }
        config
    }

    /// Properties of a consumer.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.common();
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", self.commit_interval_ms.to_string())
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 3).min(3_000).to_string())
            .set("fetch.wait.max.ms", self.fetch_wait_ms.to_string())
            // By default fetching pauses for a second whenever 100,000 messages are queued, which leaves a
            // consumer of small messages idle three quarters of the time.
            .set("fetch.queue.backoff.ms", "2")
            .set("statistics.interval.ms", super::stats::INTERVAL_MS.to_string())
            .set(
                "isolation.level",
                if self.transactions.is_some() { "read_committed" } else { "read_uncommitted" },
            );
        config
    }
}

/// What this build of librdkafka can do, in its own words.
pub(super) fn builtin_features() -> String {
    ClientConfig::new()
        .create_native_config()
        .and_then(|config| config.get("builtin.features"))
        // The value comes with its C terminator.
        .map(|features| features.trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

/// Kafka's rules for topic names.
fn topic_name_fault(name: &str) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." {
        return Some(format!("`{name}` is not a topic name"));
    }
    if name.len() > 249 {
        return Some(format!("{} characters; want at most 249", name.len()));
    }
    let wrong = name.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!("`{wrong}` may not be in a topic name; want letters, digits, `.`, `_` and `-`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut KafkaConfig)) -> String {
        let mut config = KafkaConfig::default();
        change(&mut config);
        config.validate().expect_err("should have been refused").to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_known_to_librdkafka() {
        let mut config = KafkaConfig::default();
        config.validate().unwrap();
        config.transactions = Some(Transactions::new("t"));
        config.validate().unwrap();
        for native in [config.admin(), config.producer(0), config.consumer("g")] {
            native.create_native_config().unwrap();
        }
    }

    #[test]
    fn each_impossible_setting_is_named() {
        assert!(fault(|c| c.topic = "a b".to_owned()).contains("setting `topic`: ` ` may not be"));
        assert!(fault(|c| c.partitions = 0).contains("`partitions`"));
        assert!(fault(|c| c.durability = Durability::Volatile).contains("`durability`"));
        assert!(fault(|c| c.max_in_flight = 0).contains("`max_in_flight`"));
        assert!(fault(|c| c.session_timeout_ms = 1).contains("`session_timeout_ms`"));
        assert!(fault(|c| c.brokers = "a,,b".to_owned()).contains("`brokers`"));
        let acks = fault(|c| drop(c.properties.insert("acks".to_owned(), "0".to_owned())));
        assert!(acks.contains("`acks` is set by this backend"), "{acks}");
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn tls_without_tls_in_the_build_says_which_feature_is_missing() {
        assert!(fault(|c| c.tls = Some(Tls::default())).contains("`kafka-tls`"));
        let scram = Sasl {
            mechanism: SaslMechanism::ScramSha256,
            username: "u".to_owned(),
            password: Secret::new("p"),
        };
        assert!(fault(|c| c.sasl = Some(scram)).contains("SCRAM needs"));
    }

    #[test]
    fn a_misspelt_key_is_refused_and_secrets_are_not_printed() {
        let error = serde_json::from_str::<KafkaConfig>(r#"{"linger": 5}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `linger`"), "{error}");
        let config: KafkaConfig = serde_json::from_str(
            r#"{"sasl": {"mechanism": "PLAIN", "username": "u", "password": "hunter2"}}"#,
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}
