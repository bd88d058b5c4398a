//! What a client learns from librdkafka's own callbacks: its last words, its reconnects, and how far it
//! has got with becoming usable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::counters::Counters;

/// How often librdkafka reports. Short, because it is also how a start learns that the producer has its id
/// and the consumer its place in the group; a report costs some 50 µs.
pub(super) const INTERVAL_MS: u32 = 200;

/// Lines kept of what librdkafka said last.
const WORDS: usize = 4;

/// What one client said and reported.
#[derive(Debug)]
pub(super) struct ClientNotes {
    counters: Arc<Counters>,
    words: Mutex<VecDeque<String>>,
    refused_login: AtomicBool,
    connects: AtomicI64,
    producer_ready: AtomicBool,
    group_joined: AtomicBool,
}

impl ClientNotes {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            words: Mutex::default(),
            refused_login: AtomicBool::new(false),
            connects: AtomicI64::new(0),
            producer_ready: AtomicBool::new(false),
            group_joined: AtomicBool::new(false),
        }
    }

    /// A log line of librdkafka.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if (level as i32) <= RDKafkaLogLevel::Warning as i32 {
            tracing::warn!(facility, line, "librdkafka");
            self.say(line);
        } else {
            tracing::debug!(facility, line, "librdkafka");
        }
    }

    /// An error event of librdkafka. It retries by itself, so nothing else is done about it.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        use rdkafka::types::RDKafkaErrorCode as Code;
        tracing::debug!(%error, reason, "librdkafka");
        if let Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) =
            error.rdkafka_error_code()
        {
            self.refused_login.store(true, SeqCst);
        }
        // Says only that the other errors were all there is.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            self.say(reason);
        }
    }

    fn say(&self, line: &str) {
        let mut words = self.words.lock();
        if words.back().is_some_and(|last| last == line) {
            return;
        }
        if words.len() == WORDS {
            words.pop_front();
        }
        words.push_back(line.to_owned());
    }

    /// The last lines, oldest first.
    pub(super) fn last_words(&self) -> String {
        let words = self.words.lock();
        if words.is_empty() {
            return "nothing was heard".to_owned();
        }
        words.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Whether the broker turned us away, so that waiting longer will not help.
    pub(super) fn refused_login(&self) -> bool {
        self.refused_login.load(SeqCst)
    }

    /// A periodic report.
    pub(super) fn report(&self, report: &Statistics) {
        // A first connection to a broker is no reconnect. Connections of librdkafka's bootstrap entry
        // (node -1) end when the real broker is known.
        let connects: i64 = report
            .brokers
            .values()
            .filter(|broker| broker.nodeid >= 0)
            .map(|broker| (broker.connects.unwrap_or(0) - 1).max(0))
            .sum();
        let before = self.connects.fetch_max(connects, SeqCst);
        self.counters.reconnected(u64::try_from(connects - before).unwrap_or(0));
        if report.eos.as_ref().is_some_and(|eos| eos.idemp_state == "Assigned") {
            self.producer_ready.store(true, SeqCst);
        }
        let joined = report.cgrp.as_ref().is_some_and(|group| group.join_state == "steady");
        if joined {
            self.group_joined.store(true, SeqCst);
        }
    }

    /// Whether the idempotent producer has its id.
    pub(super) fn producer_ready(&self) -> bool {
        self.producer_ready.load(SeqCst)
    }

    /// Whether the consumer has its place in the group.
    pub(super) fn group_joined(&self) -> bool {
        self.group_joined.load(SeqCst)
    }
}
