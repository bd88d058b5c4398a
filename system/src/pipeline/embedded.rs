//! All three services in this process, each on a loopback port of its own, for tests and for embedding.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::config::{Settings, UpstreamConfig};
use super::gateway::{self, Gateway};
use super::ingest::{self, Ingest};
use super::processor::{self, Parts, Prefix, Processing, Processor, ShutdownError};
use crate::queue::Queue;

/// The pipeline could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The processor could not.
    #[error(transparent)]
    Processor(#[from] processor::StartError),
    /// A front service could not.
    #[error("cannot start the {service}: {source}")]
    Front {
        /// Which one.
        service: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Gateway, ingest service and processor, connected.
#[derive(Debug)]
pub struct Embedded {
    /// The front door.
    pub gateway: Gateway,
    /// Behind it.
    pub ingest: Ingest,
    /// Behind that.
    pub processor: Processor,
}

/// Starts all three from the inside out. Hosts, ports and URLs in `settings` are replaced; all else counts.
///
/// # Errors
/// When one of them cannot be started; those that were are ended.
pub async fn start(settings: Settings) -> Result<Embedded, StartError> {
    let mut settings = settings;
    on_loopback(&mut settings);
    let processor = processor::start(settings.processor.clone()).await?;
    front(settings, processor).await
}

/// The same over a queue and a processing of the caller's own.
///
/// # Errors
/// As [`start`].
pub async fn start_with<Q: Queue, P: Processing>(
    settings: Settings,
    parts: Parts<Q, P>,
) -> Result<Embedded, StartError> {
    let mut settings = settings;
    on_loopback(&mut settings);
    let processor = processor::start_with(settings.processor.clone(), parts).await?;
    front(settings, processor).await
}

/// The same over a queue of the caller's own, with the standard processing.
///
/// # Errors
/// As [`start`].
pub async fn start_over<Q: Queue>(settings: Settings, queue: Q) -> Result<Embedded, StartError> {
    start_with::<Q, Prefix>(settings, Parts::over(queue)).await
}

async fn front(mut settings: Settings, processor: Processor) -> Result<Embedded, StartError> {
    let url = |address: SocketAddr| format!("http://{address}");
    set_url(&mut settings.ingest.processor, url(processor.address()));
    let failed = |service| move |source| StartError::Front { service, source };
    let ingest = ingest::start(settings.ingest).await.map_err(failed("ingest service"))?;
    set_url(&mut settings.gateway.ingest, url(ingest.address()));
    set_url(&mut settings.gateway.processor, url(processor.address()));
    let gateway = gateway::start(settings.gateway).await.map_err(failed("gateway"))?;
    Ok(Embedded { gateway, ingest, processor })
}

fn set_url(upstream: &mut UpstreamConfig, url: String) {
    upstream.url = url;
}

fn on_loopback(settings: &mut Settings) {
    for server in [&mut settings.gateway.server, &mut settings.ingest.server, &mut settings.processor.server]
    {
        server.host = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        server.port = 0;
    }
}

impl Embedded {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Ends all three from the outside in, so that everything that was acknowledged is processed; each gets
    /// what is left of `deadline`.
    ///
    /// # Errors
    /// When the processor had to stop before everything was done.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let until = std::time::Instant::now() + deadline;
        let left = || until.saturating_duration_since(std::time::Instant::now());
        let gateway = self.gateway.shutdown(left()).await;
        let ingest = self.ingest.shutdown(left()).await;
        self.processor.shutdown(left()).await?;
        if gateway && ingest { Ok(()) } else { Err(ShutdownError::Requests) }
    }
}
