//! Settings of the services: defaults, then a TOML file, then the environment; the later one counts.
//!
//! The names and defaults of the environment are a contract with existing deployments: an empty variable is an
//! unset one, and an integer variable that holds no integer is ignored. The TOML file is new and therefore
//! strict: an unknown key is an error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

mod env;
mod server;
mod upstream;

pub use env::Env;
pub use server::ServerConfig;
pub use upstream::UpstreamConfig;

use super::rate_limit::RateLimitConfig;

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration {path}: {reason}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, column and reason.
        reason: String,
    },
    /// A value is out of range.
    #[error("{name} is {value}: {wanted}")]
    Value {
        /// Variable or key.
        name: &'static str,
        /// What it is.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
}

/// Settings of all services; each program uses its own part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The API gateway.
    pub gateway: GatewayConfig,
    /// The ingest service.
    pub ingest: IngestConfig,
    /// The processor.
    pub processor: ProcessorConfig,
    /// The gRPC server.
    pub grpc: GrpcConfig,
}

impl Settings {
    /// Reads `file`, if there is one, and lets `env` override it.
    ///
    /// # Errors
    /// When the file cannot be read or a value is impossible.
    pub fn load(file: Option<&Path>, env: &Env) -> Result<Self, ConfigError> {
        let mut settings = match file {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                toml::from_str(&text).map_err(|error| ConfigError::Parse {
                    path: path.to_owned(),
                    reason: error.to_string(),
                })?
            }
        };
        settings.gateway.apply(env)?;
        settings.ingest.apply(env);
        settings.processor.apply(env)?;
        settings.grpc.apply(env)?;
        Ok(settings)
    }
}

/// The API gateway: the front door.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where it listens and what it refuses.
    pub server: ServerConfig,
    /// Where ingest requests go. The deadline of 3 s is longer than the ingest service's own.
    pub ingest: UpstreamConfig,
    /// Where `/enqueue` goes.
    pub processor: UpstreamConfig,
    /// Requests a second of all clients together; 0 means without limit.
    pub rate_limit_total_per_s: f64,
    /// Requests a second of each client address; 0 means without limit.
    pub rate_limit_client_per_s: f64,
    /// How many seconds' worth of requests may come at once.
    pub rate_limit_burst_s: f64,
    /// If set, requests other than `/health` and `/ready` must carry `Authorization: Bearer <token>`.
    pub bearer_token: Option<String>,
    /// If set, a second listener speaks TLS (HTTP/1.1 and HTTP/2).
    pub tls: Option<TlsConfig>,
}

/// A TLS listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Where it listens.
    pub port: u16,
    /// Certificate chain, PEM.
    pub certificates: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            server: ServerConfig { port: 8080, ..ServerConfig::default() },
            ingest: UpstreamConfig { timeout_ms: 3_000, ..UpstreamConfig::to("http://localhost:8081") },
            processor: UpstreamConfig { timeout_ms: 3_000, ..UpstreamConfig::to("http://localhost:8082") },
            rate_limit_total_per_s: 0.0,
            rate_limit_client_per_s: 0.0,
            rate_limit_burst_s: 1.0,
            bearer_token: None,
            tls: None,
        }
    }
}

impl GatewayConfig {
    fn apply(&mut self, env: &Env) -> Result<(), ConfigError> {
        self.server.apply(env, "API_PORT");
        env.text("INGEST_URL", &mut self.ingest.url);
        env.text("PROCESSOR_URL", &mut self.processor.url);
        env.number("RATE_LIMIT_PER_S", &mut self.rate_limit_total_per_s);
        env.number("RATE_LIMIT_CLIENT_PER_S", &mut self.rate_limit_client_per_s);
        env.number("RATE_LIMIT_BURST_S", &mut self.rate_limit_burst_s);
        env.optional_text("API_BEARER_TOKEN", &mut self.bearer_token);
        let (mut certificates, mut key) = (None, None);
        env.optional_text("API_TLS_CERT", &mut certificates);
        env.optional_text("API_TLS_KEY", &mut key);
        match (certificates, key) {
            (Some(certificates), Some(key)) => {
                let mut tls = TlsConfig { port: 8443, certificates: certificates.into(), key: key.into() };
                env.number("API_TLS_PORT", &mut tls.port);
                self.tls = Some(tls);
            }
            (None, None) => {}
            (certificates, _) => {
                let name = if certificates.is_some() { "API_TLS_KEY" } else { "API_TLS_CERT" };
                let wanted = "certificate and key are needed together";
                return Err(ConfigError::Value { name, value: "unset".into(), wanted });
            }
        }
        for (name, value) in [
            ("RATE_LIMIT_PER_S", self.rate_limit_total_per_s),
            ("RATE_LIMIT_CLIENT_PER_S", self.rate_limit_client_per_s),
            ("RATE_LIMIT_BURST_S", self.rate_limit_burst_s),
        ] {
            if !(0.0..=1e9).contains(&value) {
                let wanted = "a number from 0 (no limit) to 1e9";
                return Err(ConfigError::Value { name, value: value.to_string(), wanted });
            }
        }
        Ok(())
    }

    pub(super) fn rate_limit(&self) -> RateLimitConfig {
        RateLimitConfig {
            total_per_s: self.rate_limit_total_per_s,
            client_per_s: self.rate_limit_client_per_s,
            burst_s: self.rate_limit_burst_s,
        }
    }
}

/// The ingest service: reads what clients send and makes messages of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Where it listens and what it refuses.
    pub server: ServerConfig,
    /// Where messages go. The deadline of 2.5 s lies between the gateway's and the processor's.
    pub processor: UpstreamConfig,
    /// Refuse requests with an empty source or no data. Off: they are accepted, as clients expect.
    pub validate: bool,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            server: ServerConfig { port: 8081, ..ServerConfig::default() },
            processor: UpstreamConfig { timeout_ms: 2_500, ..UpstreamConfig::to("http://localhost:8082") },
            validate: false,
        }
    }
}

impl IngestConfig {
    fn apply(&mut self, env: &Env) {
        self.server.apply(env, "INGEST_PORT");
        env.text("PROCESSOR_URL", &mut self.processor.url);
        env.flag("VALIDATE_MESSAGES", &mut self.validate);
    }
}

/// The processor: owns the queue and the workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessorConfig {
    /// Where it listens and what it refuses.
    pub server: ServerConfig,
    /// Workers; at least one.
    pub workers: i64,
    /// Most messages that a worker takes at once.
    pub batch: usize,
    /// Most messages that are delivered and not yet acknowledged.
    pub prefetch: usize,
    /// How often a message is tried before it goes to the dead letters.
    pub max_attempts: u32,
    /// Wait before the second try; doubled before each further one, at most 64 times this.
    pub retry_delay_ms: u64,
    /// How long the queue may take to acknowledge; shorter than the deadlines of the callers.
    pub publish_timeout_ms: u64,
    /// How many dead letters are kept for inspection.
    pub dead_letters: usize,
    /// Messages that fit; memory queue only.
    pub queue_size: i64,
    /// `memory`, `nats`, `kafka` or `composite`.
    pub queue_type: String,
    /// Servers of NATS.
    pub nats_url: String,
    /// NATS stream. Its subject is `diplom.messages` for the default name, `<stream>.messages` for another.
    pub nats_stream: String,
    /// Brokers of Kafka, separated by commas.
    pub kafka_brokers: String,
    /// Kafka topic.
    pub kafka_topic: String,
    /// Partitions that the topic is created with. One that is there keeps those it has, even one alone, as brokers
    /// create it that are asked for a topic they do not know.
    pub kafka_partitions: u32,
    /// Kafka consumer group.
    pub kafka_consumer_group: String,
    /// Children of the composite, separated by commas.
    pub composite_providers: String,
    /// `fail-fast` or `best-effort`.
    pub composite_strategy: String,
    /// Serve the feed of results at `/internal/v1/results`. It tells what messages hold, so it is off.
    pub result_feed: bool,
    /// Delete the stream or topic, if starting created it, when the processor is shut down: for trials.
    pub ephemeral: bool,
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            server: ServerConfig { port: 8082, header_timeout_ms: 5_000, ..ServerConfig::default() },
            workers: 4,
            batch: 64,
            prefetch: 256,
            max_attempts: 3,
            retry_delay_ms: 50,
            publish_timeout_ms: 2_000,
            dead_letters: 1_000,
            queue_size: 1_000,
            queue_type: "memory".into(),
            nats_url: "nats://localhost:4222".into(),
            nats_stream: "DIPLOM_STREAM".into(),
            kafka_brokers: "localhost:9092".into(),
            kafka_topic: "diplom-messages".into(),
            kafka_partitions: 4,
            kafka_consumer_group: "processor-group".into(),
            composite_providers: "nats,kafka".into(),
            composite_strategy: "fail-fast".into(),
            result_feed: false,
            ephemeral: false,
        }
    }
}

impl ProcessorConfig {
    fn apply(&mut self, env: &Env) -> Result<(), ConfigError> {
        self.server.apply(env, "PROCESSOR_PORT");
        env.number("PROCESSOR_WORKERS", &mut self.workers);
        env.number("QUEUE_SIZE", &mut self.queue_size);
        env.text("QUEUE_TYPE", &mut self.queue_type);
        env.text("NATS_URL", &mut self.nats_url);
        env.text("NATS_STREAM", &mut self.nats_stream);
        env.text("KAFKA_BROKERS", &mut self.kafka_brokers);
        env.text("KAFKA_TOPIC", &mut self.kafka_topic);
        env.number("KAFKA_PARTITIONS", &mut self.kafka_partitions);
        env.text("KAFKA_CONSUMER_GROUP", &mut self.kafka_consumer_group);
        env.text("COMPOSITE_PROVIDERS", &mut self.composite_providers);
        env.text("COMPOSITE_STRATEGY", &mut self.composite_strategy);
        env.flag("PROCESSOR_RESULT_FEED", &mut self.result_feed);
        env.flag("QUEUE_EPHEMERAL", &mut self.ephemeral);
        env.number("PROCESSOR_MAX_ATTEMPTS", &mut self.max_attempts);
        env.number("PROCESSOR_RETRY_DELAY_MS", &mut self.retry_delay_ms);
        env.number("PROCESSOR_BATCH", &mut self.batch);
        env.number("PROCESSOR_PREFETCH", &mut self.prefetch);
        self.validate()
    }

    /// Says what cannot work, before anything is started.
    ///
    /// # Errors
    /// Names the value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |name, value: i64, range: std::ops::RangeInclusive<i64>, wanted| {
            if range.contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Value { name, value: value.to_string(), wanted })
            }
        };
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        within("PROCESSOR_WORKERS", self.workers, 1..=1_024, "a number from 1 to 1024")?;
        within("QUEUE_SIZE", self.queue_size, 1..=100_000_000, "a number from 1 to 100000000")?;
        within("PROCESSOR_BATCH", count(self.batch), 1..=10_000, "a number from 1 to 10000")?;
        within("PROCESSOR_PREFETCH", count(self.prefetch), 1..=1_000_000, "a number from 1 to 1000000")?;
        within("PROCESSOR_MAX_ATTEMPTS", i64::from(self.max_attempts), 1..=100, "a number from 1 to 100")?;
        Ok(())
    }

    pub(super) fn publish_timeout(&self) -> Duration {
        Duration::from_millis(self.publish_timeout_ms)
    }

    pub(super) fn retry_delay(&self) -> Duration {
        Duration::from_millis(self.retry_delay_ms)
    }
}

/// The gRPC server.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its metrics, health and readiness are served over HTTP.
    pub http: ServerConfig,
    /// Where messages go.
    pub processor: UpstreamConfig,
    /// Refuse requests with an empty source or no data (`INVALID_ARGUMENT`).
    pub validate: bool,
    /// Streams that one connection may have open at once.
    pub max_concurrent_streams: u32,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_052),
            http: ServerConfig { port: 50_053, ..ServerConfig::default() },
            processor: UpstreamConfig { timeout_ms: 5_000, ..UpstreamConfig::to("http://localhost:8082") },
            validate: false,
            max_concurrent_streams: 1_000,
        }
    }
}

impl GrpcConfig {
    fn apply(&mut self, env: &Env) -> Result<(), ConfigError> {
        let mut address = None;
        env.optional_text("GRPC_ADDR", &mut address);
        if let Some(text) = address {
            self.address = text.parse().map_err(|_| ConfigError::Value {
                name: "GRPC_ADDR",
                value: text,
                wanted: "an address and port such as 0.0.0.0:50052",
            })?;
        }
        self.http.apply(env, "GRPC_HTTP_PORT");
        env.text("PROCESSOR_URL", &mut self.processor.url);
        env.flag("VALIDATE_MESSAGES", &mut self.validate);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
