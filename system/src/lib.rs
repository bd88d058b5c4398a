//! The system under test, usable as a library of its own.
//!
//! Read in this order:
//!
//! - [`message`]: what travels.
//! - [`queue`]: the trait family every backend implements, and the backends (memory, NATS JetStream,
//!   Kafka, and the composite of several).
//! - `cluster`: the cluster-coordination library (feature `cluster`): members, partitions, hooks, custom
//!   data and locks, decided by Raft.
//! - [`pipeline`]: gateway, ingest, processor and gRPC server over a queue.
//! - [`telemetry`]: metrics, trace context and log output of the services.
//!
//! This crate knows nothing of the harness that measures it: it records no latencies, draws nothing and
//! installs no tracing subscriber.
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `nats` | NATS JetStream backend | yes |
//! | `kafka` | Apache Kafka backend (builds the bundled librdkafka) | yes |
//! | `cluster` | cluster-coordination library | yes |
//! | `pipeline` | gateway, ingest, processor and gRPC server | yes |
//! | `telemetry` | metrics, trace context, log output, OTLP traces | with `pipeline` |

#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "kv")]
pub mod kv;
pub mod message;
#[cfg(feature = "pipeline")]
pub mod pipeline;
pub mod queue;
#[cfg(feature = "raft")]
pub mod raft;
#[cfg(feature = "telemetry")]
pub mod telemetry;
