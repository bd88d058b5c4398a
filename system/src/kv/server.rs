//! A whole store as one object: member, service and HTTP listener, from start to an orderly end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    http,
    machine::KvMachine,
    service::{Kv, Limits},
};
use crate::raft::{
    disk::{Disk, RealDisk},
    node::{Node, NodeConfig, StartError},
};

/// How long connections and the log get to finish.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running store.
#[derive(Debug)]
pub struct KvServer {
    kv: Arc<Kv>,
    address: SocketAddr,
    stop: CancellationToken,
    listener: JoinHandle<io::Result<()>>,
}

impl KvServer {
    /// Starts a member and serves it on `listener`.
    ///
    /// # Errors
    /// When the member does not start.
    pub async fn start(
        listener: TcpListener,
        config: NodeConfig,
        limits: Limits,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, StartError> {
        Self::start_on(listener, config, limits, metrics, Arc::new(RealDisk)).await
    }

    /// The same with log and snapshots on another disk.
    ///
    /// # Errors
    /// As [`KvServer::start`].
    pub async fn start_on(
        listener: TcpListener,
        config: NodeConfig,
        limits: Limits,
        metrics: Option<PrometheusHandle>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        let address =
            listener.local_addr().map_err(|error| StartError::Config(format!("listener: {error}")))?;
        let node = Node::start_on(config, Arc::new(KvMachine::default()), disk).await?;
        let kv = Kv::new(node, limits);
        let router = http::router(kv.clone(), metrics);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // Small answers must not wait for the client's delayed acknowledgement.
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        let serve = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned());
        let listener = tokio::spawn(serve.into_future());
        Ok(Self { kv, address, stop, listener })
    }

    /// The store.
    #[must_use]
    pub fn kv(&self) -> &Arc<Kv> {
        &self.kv
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more, finishes what is under way and closes the log, within ten seconds.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.kv.node().shutdown(SHUTDOWN_TIMEOUT).await;
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.listener).await.is_err() {
            self.listener.abort();
        }
    }
}
