//! Finding the cluster, creating or checking the topic, asking for depth and settings, deleting.
//!
//! Everything here blocks, within the configured limit, and is called on threads of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::config::builtin_features;
use super::stats::ClientNotes;
use super::{BACKEND, KafkaConfig};
use crate::queue::QueueError;

/// How often a step that waits for the cluster looks again.
const STEP: Duration = Duration::from_millis(20);

/// Settings of a topic that decide what an acknowledgement survives and what it takes.
const TOPIC_EVIDENCE: &[&str] = &[
    "cleanup.policy",
    "compression.type",
    "flush.messages",
    "flush.ms",
    "max.message.bytes",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
];

/// The same of a broker.
const BROKER_EVIDENCE: &[&str] = &[
    "broker.id",
    "default.replication.factor",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "message.max.bytes",
    "min.insync.replicas",
    "node.id",
    "num.io.threads",
    "num.network.threads",
    "offsets.topic.replication.factor",
    "process.roles",
    "transaction.state.log.min.isr",
];

/// A client that only asks.
pub(super) struct Probe(Arc<ClientNotes>);

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Probe {}

/// The topic and the connection to ask about it.
pub(super) struct Admin {
    config: KafkaConfig,
    probe: BaseConsumer<Probe>,
    notes: Arc<ClientNotes>,
    created: bool,
    /// Members of no group that may read a group's committed offsets.
    readers: Mutex<HashMap<String, Arc<BaseConsumer>>>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("created", &self.created).finish_non_exhaustive()
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> QueueError {
    QueueError::Failed { backend: BACKEND, reason: format!("{what}: {error}") }
}

impl Admin {
    /// Connects, and creates the topic or checks it.
    pub(super) fn open(config: KafkaConfig, notes: Arc<ClientNotes>) -> Result<Self, QueueError> {
        let until = Instant::now() + config.connect_timeout();
        let probe: BaseConsumer<Probe> = config
            .admin()
            .create_with_context(Probe(Arc::clone(&notes)))
            .map_err(|error| failed("client", &error))?;
        let mut admin = Self { config, probe, notes, created: false, readers: Mutex::default() };
        if admin.find_topic(until)?.is_none() {
            admin.created = admin.create_topic(until)?;
        }
        admin.check_topic(until)?;
        Ok(admin)
    }

    /// Whether opening made the topic.
    pub(super) fn created(&self) -> bool {
        self.created
    }

    fn unreachable(&self) -> QueueError {
        // Events wait on the probe's queue until it is polled.
        while self.probe.poll(Duration::ZERO).is_some() {}
        QueueError::Unreachable {
            backend: BACKEND,
            address: self.config.brokers.clone(),
            waited: self.config.connect_timeout(),
            reason: self.notes.last_words(),
        }
    }

    /// Partitions and replicas of the topic, if it is there. Asks until a broker answers.
    fn find_topic(&self, until: Instant) -> Result<Option<(usize, usize)>, QueueError> {
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let answer =
                self.probe.fetch_metadata(Some(&self.config.topic), left.min(Duration::from_secs(1)));
            while self.probe.poll(Duration::ZERO).is_some() {}
            match answer {
                Ok(metadata) => {
                    let Some(topic) = metadata.topics().first() else { return Ok(None) };
                    match topic.error().map(RDKafkaErrorCode::from) {
                        None => {
                            let ready = topic.partitions().iter().all(|partition| partition.leader() >= 0);
                            if ready && !topic.partitions().is_empty() {
                                let replicas = topic.partitions()[0].replicas().len();
                                return Ok(Some((topic.partitions().len(), replicas)));
                            }
                        }
                        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                            return Ok(None);
                        }
                        Some(RDKafkaErrorCode::LeaderNotAvailable) => {}
                        Some(error) => return Err(failed(&format!("topic `{}`", self.config.topic), &error)),
                    }
                }
                Err(_) if self.notes.refused_login() => {
                    return Err(failed("login refused", &self.notes.last_words()));
                }
                Err(_) => {}
            }
            if Instant::now() >= until {
                return Err(self.unreachable());
            }
            std::thread::sleep(STEP);
        }
    }

    /// Runs one administrative request.
    fn request<T>(
        &self,
        until: Instant,
        ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<T>,
    ) -> KafkaResult<T> {
        let mut config: ClientConfig = self.config.admin();
        // Nothing reads this client's log queue.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let client: AdminClient<DefaultClientContext> = config.create()?;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let options = AdminOptions::new().request_timeout(Some(left)).operation_timeout(Some(left));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
        runtime.block_on(ask(&client, &options))
    }

    /// `false` when somebody else was faster.
    fn create_topic(&self, until: Instant) -> Result<bool, QueueError> {
        let config = &self.config;
        let record_bytes = config.max_record_bytes().to_string();
        let wanted = config.wanted_topic_settings();
        let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
        let replication = i32::from(config.replication);
        let mut topic = NewTopic::new(&config.topic, partitions, TopicReplication::Fixed(replication));
        topic = topic.set("max.message.bytes", &record_bytes);
        for (name, value) in &wanted {
            topic = topic.set(name, value);
        }
        let results = self
            .request(until, async |client, options| client.create_topics([&topic], options).await)
            .map_err(|error| failed("creating the topic", &error))?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((name, error))) => {
                let why = match error {
                    RDKafkaErrorCode::InvalidReplicationFactor => {
                        format!("{error}: {replication} replicas wanted of {} brokers", self.brokers())
                    }
                    RDKafkaErrorCode::InvalidConfig => format!("{error}: {wanted:?}"),
                    _ => error.to_string(),
                };
                Err(failed(&format!("creating topic `{name}`"), &why))
            }
            Some(Ok(_)) | None => Ok(true),
        }
    }

    fn brokers(&self) -> usize {
        let metadata = self.probe.fetch_metadata(Some(&self.config.topic), Duration::from_secs(1));
        metadata.map_or(0, |metadata| metadata.brokers().len())
    }

    /// Compares the topic with what is wanted, whoever made it: for our own this is the proof that the
    /// broker took the settings.
    fn check_topic(&mut self, until: Instant) -> Result<(), QueueError> {
        let (partitions, replicas) = loop {
            match self.find_topic(until)? {
                Some(found) => break found,
                None if Instant::now() >= until => return Err(self.unreachable()),
                None => std::thread::sleep(STEP),
            }
        };
        if self.config.any_partitions {
            self.config.partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        }
        let config = &self.config;
        let there = self.describe_topic(until)?;
        let mut differences = Vec::new();
        if partitions != config.partitions as usize {
            differences.push(format!("partitions: {partitions} there, {} wanted", config.partitions));
        }
        if replicas != usize::from(config.replication) {
            differences.push(format!("replication: {replicas} there, {} wanted", config.replication));
        }
        let record_bytes = config.max_record_bytes();
        let limit = there.get("max.message.bytes").and_then(|limit| limit.parse::<usize>().ok());
        if limit.is_some_and(|limit| limit < record_bytes)
            && !config.topic_settings.contains_key("max.message.bytes")
        {
            let limit = limit.unwrap_or_default();
            differences.push(format!("max.message.bytes: {limit} there, {record_bytes} or more wanted"));
        }
        let mut wanted = config.wanted_topic_settings();
        // A compacted topic drops messages that have a successor of the same key.
        wanted.entry("cleanup.policy".to_owned()).or_insert_with(|| "delete".to_owned());
        for (name, wanted) in wanted {
            match there.get(&name) {
                Some(there) if *there == wanted => {}
                Some(there) => differences.push(format!("{name}: {there} there, {wanted} wanted")),
                None => differences.push(format!("{name}: unknown to the broker, {wanted} wanted")),
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(QueueError::Clash {
            backend: BACKEND,
            name: config.topic.clone(),
            differences: differences.join(", "),
        })
    }

    fn describe(
        &self,
        until: Instant,
        what: ResourceSpecifier<'_>,
    ) -> Result<BTreeMap<String, String>, QueueError> {
        let resources = self
            .request(until, async |client, options| client.describe_configs([&what], options).await)
            .map_err(|error| failed("asking for settings", &error))?;
        let resource: ConfigResource = match resources.into_iter().next() {
            Some(Ok(resource)) => resource,
            Some(Err(error)) => return Err(failed("asking for settings", &error)),
            None => return Err(failed("asking for settings", &"no answer")),
        };
        Ok(resource
            .entries
            .into_iter()
            .filter(|entry| !entry.is_sensitive)
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    fn describe_topic(&self, until: Instant) -> Result<BTreeMap<String, String>, QueueError> {
        self.describe(until, ResourceSpecifier::Topic(&self.config.topic))
    }

    /// What the cluster says of the topic and of one broker.
    pub(super) fn evidence(&self) -> Result<BTreeMap<String, String>, QueueError> {
        let until = Instant::now() + self.config.connect_timeout();
        let metadata = self
            .probe
            .fetch_metadata(Some(&self.config.topic), self.config.connect_timeout())
            .map_err(|_| self.unreachable())?;
        let mut evidence = BTreeMap::new();
        evidence.insert("cluster.brokers".to_owned(), metadata.brokers().len().to_string());
        if let Some(topic) = metadata.topics().first() {
            evidence.insert("topic.partitions".to_owned(), topic.partitions().len().to_string());
            if let Some(partition) = topic.partitions().first() {
                evidence.insert("topic.replicas".to_owned(), partition.replicas().len().to_string());
                evidence.insert("topic.in_sync_replicas".to_owned(), partition.isr().len().to_string());
            }
        }
        let mut quote = |prefix: &str, names: &[&str], settings: &BTreeMap<String, String>| {
            for name in names {
                if let Some(value) = settings.get(*name) {
                    evidence.insert(format!("{prefix}.{name}"), value.clone());
                }
            }
        };
        quote("topic", TOPIC_EVIDENCE, &self.describe_topic(until)?);
        if let Some(broker) = metadata.brokers().first() {
            quote("broker", BROKER_EVIDENCE, &self.describe(until, ResourceSpecifier::Broker(broker.id()))?);
        }
        evidence.insert("client.librdkafka".to_owned(), rdkafka::util::get_rdkafka_version().1);
        evidence.insert("client.features".to_owned(), builtin_features());
        Ok(evidence)
    }

    /// Messages of the topic that `group` has not processed: for each partition the end of the log and the
    /// committed position (the log's begin where there is none).
    pub(super) fn lag(&self, group: Option<&str>) -> Result<Vec<Lag>, QueueError> {
        let limit = self.config.connect_timeout();
        let mut all = Vec::new();
        for partition in 0..i32::try_from(self.config.partitions).unwrap_or(i32::MAX) {
            let (begin, end) = self
                .probe
                .fetch_watermarks(&self.config.topic, partition, limit)
                .map_err(|_| self.unreachable())?;
            all.push(Lag { begin, end, committed: None });
        }
        while self.probe.poll(Duration::ZERO).is_some() {}
        let Some(group) = group else { return Ok(all) };
        let reader = self.reader(group)?;
        let mut positions = TopicPartitionList::new();
        positions.add_partition_range(&self.config.topic, 0, i32::try_from(all.len()).unwrap_or(1) - 1);
        let positions = reader
            .committed_offsets(positions, limit)
            .map_err(|error| failed("asking for offsets", &error))?;
        for element in positions.elements() {
            if let (Ok(index), Offset::Offset(offset)) =
                (usize::try_from(element.partition()), element.offset())
                && let Some(lag) = all.get_mut(index)
            {
                lag.committed = Some(offset);
            }
        }
        Ok(all)
    }

    fn reader(&self, group: &str) -> Result<Arc<BaseConsumer>, QueueError> {
        let mut readers = self.readers.lock();
        if let Some(reader) = readers.get(group) {
            return Ok(Arc::clone(reader));
        }
        let mut config = self.config.admin();
        // Nothing reads this client's log queue, and it never subscribes, so it is no member of the group.
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set_log_level(RDKafkaLogLevel::Emerg);
        let reader: BaseConsumer = config.create().map_err(|error| failed("client", &error))?;
        let reader = Arc::new(reader);
        readers.insert(group.to_owned(), Arc::clone(&reader));
        Ok(reader)
    }

    /// Deletes the topic, and with it, by the broker, every group's offsets in it. A group itself may hold
    /// offsets of other topics, so groups are left alone.
    pub(super) fn remove(&self) -> Result<(), QueueError> {
        let until = Instant::now() + self.config.connect_timeout();
        let topic = self.config.topic.as_str();
        let results = self
            .request(until, async |client, options| client.delete_topics(&[topic], options).await)
            .map_err(|error| failed("deleting the topic", &error))?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) | Some(Ok(_)) | None => {}
            Some(Err((name, error))) => return Err(failed(&format!("deleting topic `{name}`"), &error)),
        }
        Ok(())
    }
}

/// Where one partition stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    /// The first offset still there.
    pub(super) begin: i64,
    /// The offset after the last message.
    pub(super) end: i64,
    /// The group's committed position.
    pub(super) committed: Option<i64>,
}
