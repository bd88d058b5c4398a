//! How each real backend is started, waited for, broken and stopped.
//!
//! [`start`] takes a [`Backend`] and [`StartOptions`] and gives a [`Running`] server: at an address the
//! user gave (`external`), in a container (`docker`), or as a child process of this one (`native`), in that
//! order unless told otherwise. Ready means that a client of the server's own protocol was answered by the
//! server that was started, not that a port accepts connections.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use queuebench_testcontainers::{Backend, StartOptions, start};
//!
//! let nats = start(Backend::Nats, StartOptions::from_env(Backend::Nats)).await?;
//! println!("{} {} at {} ({})", nats.backend(), nats.version(), nats.address(), nats.provisioner());
//! nats.kill().await?;
//! nats.restart().await?;
//! nats.stop(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: a start ends within its time limits, with a server or a [`StartError`] that quotes the
//! end of the server's log; no server outlives this process unseen (native children are killed by the
//! kernel, and the next start sweeps whatever else a killed run left behind); load goes to loopback only.
//! What it leaves out: topics and streams, which belong to the queues themselves, and every measurement.
//!
//! Read in this order: [`Backend`] and [`StartOptions`], `start.rs` for the order of ways, `server.rs` for
//! the configurations, then `native.rs`, `docker.rs` and `external.rs` for the three ways.

mod backend;
mod cluster;
mod docker;
mod error;
mod external;
mod log;
mod native;
mod options;
mod orphans;
mod ports;
mod probe;
pub mod require;
mod running;
mod server;
mod service;
mod start;
mod survey;
mod workspace;

pub use backend::{Backend, Provisioner, UnknownWord, Via};
pub use cluster::{Cluster, start_cluster};
pub use error::{FaultError, LogTail, StartError};
pub use external::{Credentials, External};
pub use options::{ContainerNetwork, Progress, StartOptions};
pub use ports::Port;
pub use running::{Facts, Running};
pub use service::{Service, ServiceError, ServiceSpec};
pub use start::{start, sweep};
pub use survey::{Availability, Way, survey};
