//! The pipeline as its clients see it: real services on loopback ports, driven over real connections.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "pipeline/client.rs"]
mod client;
#[path = "pipeline/deploy.rs"]
mod deploy;
#[path = "pipeline/faults.rs"]
mod faults;
#[path = "pipeline/floods.rs"]
mod floods;
#[path = "pipeline/gateway.rs"]
mod gateway;
#[path = "pipeline/grpc.rs"]
mod grpc;
#[path = "pipeline/hostile.rs"]
mod hostile;
#[path = "pipeline/ingest.rs"]
mod ingest;
#[path = "pipeline/processor.rs"]
mod processor;
#[path = "pipeline/programs.rs"]
mod programs;
#[path = "pipeline/tls.rs"]
mod tls;
#[path = "pipeline/traces.rs"]
mod traces;
