//! The Kafka queue against a real broker.
//!
//! Most tests share one broker and have topics of their own; those that break a broker start another one.
//! Where none can be started the tests print why and are left out; with `QUEUEBENCH_REQUIRE` they fail.

#![expect(clippy::unwrap_used, reason = "what a test sets up fails by panicking")]

#[path = "queue_kafka/common.rs"]
mod common;
#[path = "queue_kafka/conforms.rs"]
mod conforms;
#[path = "queue_kafka/delivery.rs"]
mod delivery;
#[path = "queue_kafka/faults.rs"]
mod faults;
#[path = "queue_kafka/topic.rs"]
mod topic;
#[path = "queue_kafka/transactions.rs"]
mod transactions;
