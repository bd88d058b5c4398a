//! What could be started here, by which way, in which version; and why not. Starts, pulls and builds nothing.

use std::time::Duration;

use serde::Serialize;

use crate::backend::{Backend, Provisioner};
use crate::docker::{Choice, Engine, choose};
use crate::external::External;
use crate::native::Program;
use crate::options::StartOptions;
use crate::server::{etcd, kafka, nats};
use crate::start::connect;

/// How long an external server may take to answer.
const EXTERNAL_LIMIT: Duration = Duration::from_secs(5);

/// One way of starting one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Which server.
    pub backend: Backend,
    /// By which way.
    pub provisioner: Provisioner,
    /// Whether that is open.
    #[serde(flatten)]
    pub availability: Availability,
}

/// Whether a way is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Availability {
    /// Everything is here.
    Available {
        /// The version, where it is known without starting the server.
        version: Option<String>,
        /// The program, image or address.
        what: String,
    },
    /// A start would get it first, which takes a while.
    Obtainable {
        /// The version.
        version: Option<String>,
        /// What would be built or pulled, with what.
        how: String,
    },
    /// No.
    Closed {
        /// Why, and what would open it.
        reason: String,
    },
}

impl Availability {
    /// Whether a start by this way can be expected to succeed.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }
}

/// The three ways of starting `backend` with these options, in the order in which
/// [`Via::Auto`](crate::Via::Auto) tries them.
pub async fn survey(backend: Backend, options: &StartOptions) -> [Way; 3] {
    let (external, docker, native) =
        tokio::join!(external(backend, options), docker(backend, options), native(backend, options));
    [(Provisioner::External, external), (Provisioner::Docker, docker), (Provisioner::Native, native)]
        .map(|(provisioner, availability)| Way { backend, provisioner, availability })
}

async fn external(backend: Backend, options: &StartOptions) -> Availability {
    let Some(external) = options.external.clone() else {
        let variable = match backend {
            Backend::Nats => "NATS_URL",
            Backend::Kafka => "KAFKA_BROKERS",
            Backend::Etcd => "ETCDCTL_ENDPOINTS",
            Backend::Kv => "KV_URLS",
        };
        return Availability::Closed { reason: format!("no address was given ({variable} is not set)") };
    };
    let what = external.shown();
    match connect(backend, External::clone(&external), EXTERNAL_LIMIT.min(options.time_limit)).await {
        Ok(running) => Availability::Available { version: stated(running.version()), what },
        Err(error) => Availability::Closed { reason: error.to_string() },
    }
}

async fn docker(backend: Backend, options: &StartOptions) -> Availability {
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => return Availability::Closed { reason: error.to_string() },
    };
    match choose(&engine, backend, options).await {
        Ok(Choice::Present(image)) => Availability::Available {
            version: tag(&image),
            what: format!("image {image} on engine {}", engine.version),
        },
        Ok(Choice::Pull(image)) => {
            Availability::Obtainable { version: tag(&image), how: format!("pulls {image}") }
        }
        Err(error) => Availability::Closed { reason: error.to_string() },
    }
}

async fn native(backend: Backend, options: &StartOptions) -> Availability {
    match Program::find(backend, options).await {
        Ok(Some(program)) => Availability::Available {
            version: program.version().await,
            what: program.location().display().to_string(),
        },
        Ok(None) => match Program::toolchain(backend, options) {
            Ok(tool) => {
                let version = match backend {
                    Backend::Nats => nats::VERSION,
                    Backend::Kafka => kafka::VERSION,
                    Backend::Etcd => etcd::VERSION,
                    Backend::Kv => env!("CARGO_PKG_VERSION"),
                };
                Availability::Obtainable {
                    version: Some(version.to_owned()),
                    how: format!("gets it with {} into {}", tool.display(), options.cache_dir.display()),
                }
            }
            Err(error) => Availability::Closed { reason: error.to_string() },
        },
        Err(error) => Availability::Closed { reason: error.to_string() },
    }
}

fn stated(version: &str) -> Option<String> {
    (!version.is_empty()).then(|| version.to_owned())
}

/// A tag that looks like a version.
fn tag(image: &str) -> Option<String> {
    let (_, tag) = image.rsplit_once(':')?;
    tag.starts_with(|first: char| first.is_ascii_digit()).then(|| tag.to_owned())
}
