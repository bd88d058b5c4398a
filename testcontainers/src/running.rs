//! A server that runs, and how to break it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::backend::{Backend, Provisioner};
use crate::docker::DockerServer;
use crate::error::FaultError;
use crate::external::External;
use crate::native::NativeServer;

/// What a server was started with, as evidence for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version that the server itself states; empty where it does not.
    pub version: String,
    /// Program and arguments; empty for an external server.
    pub command: Vec<String>,
    /// Configuration files by name, with their text.
    pub configuration: Vec<(String, String)>,
    /// The container's image.
    pub image: Option<String>,
}

/// A server that answers. Faults and [`stop`](Self::stop) take `&self`, so that a fault timeline and the run
/// that owns the server can share it; they wait for each other.
///
/// Dropping it kills the server and removes what was temporary: a last resort, as the server cannot write
/// down what it still holds.
pub struct Running {
    backend: Backend,
    address: String,
    facts: Facts,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Docker(Box<DockerServer>),
    Native(Box<NativeServer>),
    External(Box<External>),
}

impl fmt::Debug for Running {
    /// Without the address: an external one may carry a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Running")
            .field("backend", &self.backend)
            .field("facts", &self.facts)
            .field("inner", &self.inner)
            .finish()
    }
}

impl Running {
    pub(crate) fn native(backend: Backend, server: NativeServer, facts: Facts) -> Self {
        Self { backend, address: server.address(), facts, inner: Inner::Native(Box::new(server)) }
    }

    pub(crate) fn docker(backend: Backend, server: DockerServer, facts: Facts) -> Self {
        Self { backend, address: server.address(), facts, inner: Inner::Docker(Box::new(server)) }
    }

    pub(crate) fn external(backend: Backend, external: External, facts: Facts) -> Self {
        Self { backend, address: external.address.clone(), facts, inner: Inner::External(Box::new(external)) }
    }

    /// Which server it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Where clients connect: `host:port`, on loopback unless external. It survives a restart.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its own figures are, for a NATS server that this process started (`http://…/varz`).
    pub fn monitoring_url(&self) -> Option<String> {
        let port = match &self.inner {
            Inner::Native(server) => server.side_port(),
            Inner::Docker(server) => server.side_port(),
            Inner::External(_) => return None,
        };
        (self.backend == Backend::Nats).then(|| format!("http://127.0.0.1:{port}"))
    }

    /// The external address and credentials, if that is what it is.
    pub fn external_access(&self) -> Option<&External> {
        match &self.inner {
            Inner::External(external) => Some(external.as_ref()),
            Inner::Native(_) | Inner::Docker(_) => None,
        }
    }

    /// How it was started.
    pub fn provisioner(&self) -> Provisioner {
        match &self.inner {
            Inner::Native(_) => Provisioner::Native,
            Inner::Docker(_) => Provisioner::Docker,
            Inner::External(_) => Provisioner::External,
        }
    }

    /// The version that the server states; empty where it does not.
    pub fn version(&self) -> &str {
        &self.facts.version
    }

    /// What it was started with.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its processes as this machine numbers them, to be sampled from `/proc`; none while it is down, and
    /// none for an external server. They change with a restart.
    pub fn pids(&self) -> Vec<i32> {
        match &self.inner {
            Inner::Native(server) => server.pids(),
            Inner::Docker(server) => server.pids(),
            Inner::External(_) => Vec::new(),
        }
    }

    /// Where its log is written; none for an external server.
    pub fn log_path(&self) -> Option<&Path> {
        match &self.inner {
            Inner::Native(server) => Some(server.log()),
            Inner::Docker(server) => Some(server.log()),
            Inner::External(_) => None,
        }
    }

    /// SIGKILL: no goodbye, nothing flushed by the server itself. Returns when it is gone.
    ///
    /// # Errors
    /// [`FaultError::NotRunning`] when it is already down; [`FaultError::External`] for external servers.
    pub async fn kill(&self) -> Result<(), FaultError> {
        match &self.inner {
            Inner::Native(server) => server.kill().await,
            Inner::Docker(server) => server.kill().await,
            Inner::External(_) => Err(self.is_external("killed")),
        }
    }

    /// Freezes it: connections stay open and nothing answers.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub async fn pause(&self) -> Result<(), FaultError> {
        match &self.inner {
            Inner::Native(server) => server.pause().await,
            Inner::Docker(server) => server.pause().await,
            Inner::External(_) => Err(self.is_external("paused")),
        }
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub async fn resume(&self) -> Result<(), FaultError> {
        match &self.inner {
            Inner::Native(server) => server.resume().await,
            Inner::Docker(server) => server.resume().await,
            Inner::External(_) => Err(self.is_external("resumed")),
        }
    }

    /// Starts it again at the same address with the same data, after a [`kill`](Self::kill) or as an
    /// orderly stop and start; returns when it is ready.
    ///
    /// # Errors
    /// [`FaultError::Restart`] with the reason when it does not come back within the start's time limit.
    pub async fn restart(&self) -> Result<(), FaultError> {
        match &self.inner {
            Inner::Native(server) => server.restart().await,
            Inner::Docker(server) => server.restart().await,
            Inner::External(_) => Err(self.is_external("restarted")),
        }
    }

    /// Stops it in order within `deadline`, else by force, and removes its temporary files (so also its log
    /// and data, unless directories were given for them). Leaves an external server alone. Idempotent.
    ///
    /// # Errors
    /// When even force did not end it.
    pub async fn stop(&self, deadline: Duration) -> Result<(), FaultError> {
        match &self.inner {
            Inner::Native(server) => server.stop(deadline).await,
            Inner::Docker(server) => server.stop(deadline).await,
            Inner::External(_) => Ok(()),
        }
    }

    fn is_external(&self, verb: &'static str) -> FaultError {
        let address = self.external_access().map_or_else(|| self.address.clone(), External::shown);
        FaultError::External { backend: self.backend, address, verb }
    }
}
