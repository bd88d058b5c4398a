//! The system under test, usable as a library of its own.
//!
//! Read in this order:
//!
//! - [`message`]: what travels.
//! - [`queue`]: the trait family every backend implements, and the backends (memory, NATS JetStream,
//!   Kafka, and the composite of several).
//! - `cluster`: the cluster-coordination library (feature `cluster`): members, partitions, hooks, custom
//!   data and locks, decided by Raft.
//!
//! This crate knows nothing of the harness that measures it: it records no latencies, draws nothing and
//! installs no tracing subscriber.
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `nats` | NATS JetStream backend | yes |
//! | `kafka` | Apache Kafka backend (builds the bundled librdkafka) | yes |
//! | `cluster` | cluster-coordination library | yes |

#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "kv")]
pub mod kv;
pub mod message;
pub mod queue;
#[cfg(feature = "raft")]
pub mod raft;
