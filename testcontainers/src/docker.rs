//! A server in a container, through the testcontainers crate.
//!
//! On Linux with an engine of this machine the container uses the host's network and listens on loopback at
//! ports chosen here: no proxy and no bridge in the path that is measured, and the address survives a
//! restart. Elsewhere its ports are published on 127.0.0.1 under the same numbers. It runs as the user of
//! this process, with its configuration and data in directories of this machine, so that the data outlives
//! the container and can be removed without privileges.
//!
//! The crate has no reaper that survives a SIGKILL of this process; containers carry labels that say which
//! process owns them, and the next start removes those whose owner is gone (`docker/sweep.rs`).

mod container;
mod engine;
mod image;
mod logs;
mod server;
mod sweep;

pub(crate) use engine::Engine;
pub(crate) use image::{Choice, choose};
pub(crate) use server::DockerServer;
pub(crate) use sweep::sweep;
