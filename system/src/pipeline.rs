//! The pipeline: gateway, ingest service, processor and gRPC server over a queue.
//!
//! Each service is a value: `start(config)` returns a handle with `address()` and `shutdown(deadline)`.
//! The programs are thin shells around them.

mod admission;
pub mod breaker;
pub mod config;
mod context;
pub mod embedded;
pub mod gateway;
pub mod grpc;
mod http;
pub mod ingest;
pub mod processor;
pub mod program;
pub mod rate_limit;
mod stream;
mod upstream;
mod validation;
pub mod wire;
