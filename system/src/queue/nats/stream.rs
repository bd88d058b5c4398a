//! The stream and the consumers on the server: created when they are missing, compared setting by setting
//! when they are there, and never changed.

use std::fmt::Debug;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use super::connect::{chain, failed};
use super::{BACKEND, NatsConfig, NatsRetention, NatsStorage};
use crate::queue::{Acknowledge, QueueError};

/// Makes sure that the stream is there as configured; true if it was created now.
pub(super) async fn ensure_stream(js: &Context, config: &NatsConfig) -> Result<bool, QueueError> {
    let wanted = wanted_stream(config);
    match js.get_stream(&config.stream).await {
        Ok(stream) => {
            compare_stream(&wanted, &stream.cached_info().config)?;
            return Ok(false);
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            GetStreamErrorKind::JetStream(answer) => return Err(refused(&config.stream, &answer)),
            _ => return Err(failed(&format!("asking for stream `{}`: {}", config.stream, chain(&error)))),
        },
    }
    match js.create_stream(&wanted).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP =>
            {
                Err(clash(
                    &config.stream,
                    format!("subjects: another stream already takes `{}`", config.subject),
                ))
            }
            // Somebody created it since we asked.
            CreateStreamErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::STREAM_NAME_EXIST =>
            {
                let info = stream_info(js, &config.stream).await?;
                compare_stream(&wanted, &info.config)?;
                Ok(false)
            }
            CreateStreamErrorKind::JetStream(answer) => Err(refused(&config.stream, &answer)),
            _ => Err(failed(&format!("creating stream `{}`: {}", config.stream, chain(&error)))),
        },
    }
}

/// What the server says of the stream now.
pub(super) async fn stream_info(js: &Context, name: &str) -> Result<Info, QueueError> {
    let stream = js
        .get_stream(name)
        .await
        .map_err(|error| failed(&format!("asking for stream `{name}`: {}", chain(&error))))?;
    Ok(stream.cached_info().clone())
}

fn wanted_stream(config: &NatsConfig) -> Config {
    let limit = |value: Option<u64>| value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX));
    Config {
        name: config.stream.clone(),
        subjects: vec![config.stream_takes.clone().unwrap_or_else(|| config.subject.clone())],
        storage: match config.storage {
            NatsStorage::File => StorageType::File,
            NatsStorage::Memory => StorageType::Memory,
        },
        retention: match config.retention {
            NatsRetention::Limits => RetentionPolicy::Limits,
            NatsRetention::WorkQueue => RetentionPolicy::WorkQueue,
        },
        // The server's default, old, drops messages that nobody has seen yet, without a word.
        discard: DiscardPolicy::New,
        max_messages: limit(config.max_messages),
        max_bytes: limit(config.max_bytes),
        max_age: Duration::from_millis(config.max_age_ms.unwrap_or(0)),
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: Duration::from_millis(config.duplicate_window_ms),
        num_replicas: config.replicas,
        description: Some("queuebench".to_owned()),
        ..Config::default()
    }
}

fn compare_stream(wanted: &Config, found: &Config) -> Result<(), QueueError> {
    let unlimited = |value: i64| value.max(-1) == -1 || value == 0;
    let same_limit = |a: i64, b: i64| a == b || (unlimited(a) && unlimited(b));
    let mut differences = Differences::default();
    differences.note("subjects", &found.subjects, &wanted.subjects);
    differences.note("storage", &found.storage, &wanted.storage);
    differences.note("retention", &found.retention, &wanted.retention);
    differences.note("discard", &found.discard, &wanted.discard);
    for (name, found, wanted) in [
        ("max_messages", found.max_messages, wanted.max_messages),
        ("max_bytes", found.max_bytes, wanted.max_bytes),
        ("max_messages_per_subject", found.max_messages_per_subject, wanted.max_messages_per_subject),
        ("max_message_size", i64::from(found.max_message_size), i64::from(wanted.max_message_size)),
    ] {
        if !same_limit(found, wanted) {
            differences.note(name, &found, &wanted);
        }
    }
    differences.note("max_age", &found.max_age, &wanted.max_age);
    differences.note("duplicate_window", &found.duplicate_window, &wanted.duplicate_window);
    differences.note("replicas", &found.num_replicas, &wanted.num_replicas);
    differences.note("no_ack", &found.no_ack, &wanted.no_ack);
    differences.note("sealed", &found.sealed, &wanted.sealed);
    differences.note("persist_mode", &found.persist_mode, &wanted.persist_mode);
    differences.into_result(&wanted.name)
}

/// Makes sure that the group's consumer is there as configured; true if it was created now.
pub(super) async fn ensure_consumer(
    js: &Context,
    config: &NatsConfig,
    group: &str,
    acknowledge: Acknowledge,
) -> Result<bool, QueueError> {
    let wanted = wanted_consumer(config, group, acknowledge);
    let found = match consumer_info(js, config, group).await? {
        Some(found) => found,
        None => match js.create_consumer_on_stream(wanted.clone(), config.stream.as_str()).await {
            Ok(_) => return Ok(true),
            // Perhaps somebody created it since we asked.
            Err(error) => consumer_info(js, config, group).await?.ok_or_else(|| {
                failed(&format!(
                    "creating consumer `{group}` of stream `{}`: {}",
                    config.stream,
                    chain(&error)
                ))
            })?,
        },
    };
    compare_consumer(&wanted, &found.config, &format!("{}/{group}", config.stream))?;
    Ok(false)
}

/// What the server says of the group's consumer now, if it is there.
pub(super) async fn consumer_info(
    js: &Context,
    config: &NatsConfig,
    group: &str,
) -> Result<Option<consumer::Info>, QueueError> {
    let stream = js
        .get_stream_no_info(&config.stream)
        .await
        .map_err(|error| failed(&format!("stream `{}`: {}", config.stream, chain(&error))))?;
    match stream.consumer_info(group).await {
        Ok(info) => Ok(Some(info)),
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound => Ok(None),
            ConsumerInfoErrorKind::JetStream(answer)
                if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND]
                    .contains(&answer.error_code()) =>
            {
                Ok(None)
            }
            _ => Err(failed(&format!("asking for consumer `{group}`: {}", chain(&error)))),
        },
    }
}

/// A work queue takes no consumer without acknowledgements; there the client acknowledges on receipt.
pub(super) fn ack_policy(config: &NatsConfig, acknowledge: Acknowledge) -> AckPolicy {
    match (acknowledge, config.retention) {
        (Acknowledge::OnReceive, NatsRetention::Limits) => AckPolicy::None,
        _ => AckPolicy::Explicit,
    }
}

fn wanted_consumer(config: &NatsConfig, group: &str, acknowledge: Acknowledge) -> pull::Config {
    let ack_policy = ack_policy(config, acknowledge);
    let explicit = ack_policy == AckPolicy::Explicit;
    pull::Config {
        durable_name: Some(group.to_owned()),
        name: Some(group.to_owned()),
        deliver_policy: DeliverPolicy::All,
        replay_policy: ReplayPolicy::Instant,
        ack_policy,
        ack_wait: if explicit { Duration::from_millis(config.ack_wait_ms) } else { Duration::ZERO },
        max_deliver: config.max_deliver.map_or(-1, i64::from),
        max_ack_pending: if explicit { i64::from(config.max_ack_pending) } else { 0 },
        ..pull::Config::default()
    }
}

fn compare_consumer(wanted: &pull::Config, found: &consumer::Config, name: &str) -> Result<(), QueueError> {
    let mut differences = Differences::default();
    differences.note("ack_policy", &found.ack_policy, &wanted.ack_policy);
    differences.note("deliver_policy", &found.deliver_policy, &wanted.deliver_policy);
    differences.note("filter_subject", &found.filter_subject, &wanted.filter_subject);
    differences.note("deliver_subject", &found.deliver_subject, &None);
    if wanted.ack_policy == AckPolicy::Explicit {
        differences.note("ack_wait", &found.ack_wait, &wanted.ack_wait);
        differences.note("max_ack_pending", &found.max_ack_pending, &wanted.max_ack_pending);
        differences.note("max_deliver", &found.max_deliver, &wanted.max_deliver);
    }
    differences.into_result(name)
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note<T: PartialEq + Debug>(&mut self, setting: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(format!("{setting} is {found:?}, wanted {wanted:?}"));
        }
    }

    fn into_result(self, name: &str) -> Result<(), QueueError> {
        if self.0.is_empty() { Ok(()) } else { Err(clash(name, self.0.join("; "))) }
    }
}

fn clash(name: &str, differences: String) -> QueueError {
    QueueError::Clash { backend: BACKEND, name: name.to_owned(), differences }
}

fn refused(stream: &str, answer: &async_nats::jetstream::Error) -> QueueError {
    failed(&format!("server refused stream `{stream}`: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clash_names_every_setting_that_differs() {
        let config = NatsConfig { max_messages: Some(10), ..NatsConfig::default() };
        let wanted = wanted_stream(&config);
        let found = Config {
            discard: DiscardPolicy::Old,
            max_messages: 11,
            duplicate_window: Duration::from_secs(5),
            ..wanted.clone()
        };
        let error = compare_stream(&wanted, &found).unwrap_err().to_string();
        for part in ["discard is Old, wanted New", "max_messages is 11, wanted 10", "duplicate_window is 5s"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("max_bytes"), "{error}");
        compare_stream(&wanted, &wanted).unwrap();
    }
}
