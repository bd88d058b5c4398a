//! The services of a pipeline subject: three kinds of process of our own, fresh for every trial, started from
//! the back to the front and stopped from the front to the back.
//!
//! They are this very program (`queuebench serve …`), so what is measured is what was built, and nothing has to
//! be found or built beside it. Stopping is part of the trial: a service that does not drain in time, or says
//! that it left something undone, is a warning in the record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use queuebench_testcontainers::{Service, ServiceSpec};
use tokio::task::JoinHandle;

use crate::subject::pipeline::{PipelineConfig, get};
use crate::subject::{Addresses, Backend};

/// Until a service listens; a processor waits for its broker meanwhile.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often the services are asked for their tasks.
const TASKS_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const TASKS_LIMIT: Duration = Duration::from_secs(2);
/// Until a service has drained.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The services of one trial.
pub(super) struct Services {
    gateway: Service,
    ingest: Service,
    processors: Vec<Service>,
}

impl Services {
    /// Starts what `config` describes and fills in where it listens. What a processor creates on a broker
    /// carries `name`.
    pub(super) async fn start(
        config: &mut PipelineConfig,
        addresses: Addresses<'_>,
        name: &str,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let mut processors = Vec::new();
        for number in 0..config.processors {
            let env = processor_env(config, addresses, name)?;
            let label = format!("{name}-processor-{number}");
            // One after another, so that the first creates what the others find.
            processors.push(start("processor", label, env, logs).await?);
        }
        let urls: Vec<_> = processors.iter().map(|processor| processor.url().to_owned()).collect();
        let listen =
            |port: &str| [("BIND_HOST".to_owned(), "127.0.0.1".to_owned()), (port.to_owned(), "0".into())];
        let mut env = BTreeMap::from(listen("INGEST_PORT"));
        env.insert("PROCESSOR_URL".to_owned(), urls.join(","));
        let ingest = start("ingest", format!("{name}-ingest"), env, logs).await?;
        let mut env = BTreeMap::from(listen("API_PORT"));
        env.insert("PROCESSOR_URL".to_owned(), urls.join(","));
        env.insert("INGEST_URL".to_owned(), ingest.url().to_owned());
        let gateway = start("api-gateway", format!("{name}-gateway"), env, logs).await?;
        config.gateway = authority(gateway.url());
        config.feeds = urls.iter().map(|url| authority(url)).collect();
        Ok(Self { gateway, ingest, processors })
    }

    /// Their processes.
    pub(super) fn pids(&self) -> Vec<i32> {
        [&self.gateway, &self.ingest].into_iter().chain(&self.processors).map(Service::pid).collect()
    }

    /// Follows how many tasks are alive in all of them, until what is returned is dropped.
    pub(super) fn watch_tasks(&self) -> TaskWatch {
        let all = [&self.gateway, &self.ingest].into_iter().chain(&self.processors);
        TaskWatch::start(all.map(|service| authority(service.url())).collect())
    }

    /// Stops them in the order in which messages pass; says what did not end as it should.
    pub(super) async fn stop(self) -> Vec<String> {
        let mut problems = Vec::new();
        for service in [self.gateway, self.ingest].into_iter().chain(self.processors.into_iter().rev()) {
            if let Err(error) = service.stop(STOP_LIMIT).await {
                problems.push(error.to_string());
            }
        }
        problems
    }
}

/// The sum of the services' own counts of tasks, read from their metrics.
pub(super) struct TaskWatch {
    count: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl TaskWatch {
    fn start(addresses: Vec<String>) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&count);
        let watching = tokio::spawn(async move {
            let mut tick = tokio::time::interval(TASKS_INTERVAL);
            loop {
                tick.tick().await;
                // A service that does not answer leaves the last sum in place.
                if let Some(sum) = alive_tasks(&addresses).await {
                    told.store(sum, Ordering::Relaxed);
                }
            }
        });
        Self { count, watching }
    }

    pub(super) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

impl Drop for TaskWatch {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn alive_tasks(addresses: &[String]) -> Option<u64> {
    let mut sum = 0;
    for address in addresses {
        let text = get(address, "/metrics", TASKS_LIMIT).await.ok()?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix("tokio_alive_tasks "))?;
        sum += line.trim().parse::<u64>().ok()?;
    }
    Some(sum)
}

async fn start(
    service: &str,
    name: String,
    env: BTreeMap<String, String>,
    logs: &Path,
) -> anyhow::Result<Service> {
    let spec = ServiceSpec {
        name,
        program: std::env::current_exe().context("cannot find our own program")?,
        args: vec!["serve".to_owned(), service.to_owned()],
        env: env.into_iter().collect(),
        log_dir: logs.to_owned(),
        time_limit: START_LIMIT,
    };
    Ok(Service::start(spec).await?)
}

fn processor_env(
    config: &PipelineConfig,
    addresses: Addresses<'_>,
    name: &str,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut env: BTreeMap<&str, String> = BTreeMap::from([
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("PROCESSOR_PORT", "0".to_owned()),
        ("PROCESSOR_WORKERS", config.workers.to_string()),
        ("PROCESSOR_RESULT_FEED", "true".to_owned()),
        ("QUEUE_EPHEMERAL", "true".to_owned()),
        ("QUEUE_TYPE", config.queue.name().to_owned()),
        ("QUEUE_SIZE", config.queue_size.to_string()),
        // An environment made for one deployment must not leak into a trial.
        ("COMPOSITE_PROVIDERS", String::new()),
        ("COMPOSITE_STRATEGY", String::new()),
        ("SHUTDOWN_DEADLINE_S", "30".to_owned()),
    ]);
    if matches!(config.queue, Backend::Nats | Backend::Composite) {
        let server = addresses.nats.context("no NATS server was started")?;
        env.insert("NATS_URL", server.address().to_owned());
        env.insert("NATS_STREAM", name.to_owned());
    }
    if matches!(config.queue, Backend::Kafka | Backend::Composite) {
        let server = addresses.kafka.context("no Kafka broker was started")?;
        env.insert("KAFKA_BROKERS", server.address().to_owned());
        env.insert("KAFKA_TOPIC", name.to_owned());
        env.insert("KAFKA_CONSUMER_GROUP", format!("{name}-group"));
    }
    Ok(env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A URL without its scheme.
fn authority(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}
