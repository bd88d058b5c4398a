//! Starts a server by the first way that is open.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::{Backend, Provisioner, Via};
use crate::docker::{self, DockerServer, Engine};
use crate::error::StartError;
use crate::external::External;
use crate::native::{NativeServer, Program};
use crate::options::StartOptions;
use crate::orphans;
use crate::ports::Port;
use crate::probe::{self, NotReady, Target};
use crate::running::{Facts, Running};

/// How often a port that was taken between its choice and its use is replaced.
pub(crate) const PORT_ATTEMPTS: usize = 3;

/// Starts `backend` and waits until it is ready.
///
/// With [`Via::Auto`] the ways are tried in the order external, docker, native. A way that is closed (no
/// engine, no image, no toolchain) leads to the next one; a server that was started and failed is an error,
/// as is an image that was asked for by name and is not there.
///
/// # Errors
/// See [`StartError`]; whatever had been started is stopped again.
pub async fn start(backend: Backend, options: StartOptions) -> Result<Running, StartError> {
    if options.via == Via::Auto
        && let Some(external) = options.external.clone()
    {
        return connect(backend, external, options.time_limit).await;
    }
    match options.via {
        Via::Docker => docker(backend, &options).await,
        Via::Native => {
            sweep_for(&options).await;
            native(backend, &options).await
        }
        Via::Auto => {
            let closed = match docker(backend, &options).await {
                Err(error) if may_try_another(&error, &options) => error,
                other => return other,
            };
            tracing::info!(target: "queuebench::start", %backend, reason = %closed, "docker is not open");
            match native(backend, &options).await {
                Err(error) if error.is_unavailable() => Err(StartError::NoWay {
                    backend,
                    reasons: vec![
                        (Provisioner::Docker, closed.to_string()),
                        (Provisioner::Native, error.to_string()),
                    ],
                }),
                other => other,
            }
        }
    }
}

/// An image that the user asked for is not replaced by something else behind their back.
fn may_try_another(error: &StartError, options: &StartOptions) -> bool {
    match error {
        StartError::Image { .. } => options.image.is_none(),
        other => other.is_unavailable(),
    }
}

/// Meets a server that somebody else runs.
pub(crate) async fn connect(
    backend: Backend,
    external: External,
    limit: Duration,
) -> Result<Running, StartError> {
    let target =
        Target { backend, address: &external.address, identity: None, credentials: &external.credentials };
    let ready = probe::until_ready(&target, limit).await.map_err(|not_ready| {
        let address = external.shown();
        match not_ready {
            NotReady::Never(reason) => StartError::Unsuitable { backend, address, reason },
            NotReady::Yet(last) => StartError::Unreachable { backend, address, waited: limit, last },
        }
    })?;
    let facts = Facts {
        version: ready.version.unwrap_or_default(),
        command: Vec::new(),
        configuration: Vec::new(),
        image: None,
    };
    Ok(Running::external(backend, external, facts))
}

async fn docker(backend: Backend, options: &StartOptions) -> Result<Running, StartError> {
    let engine = Engine::connect().await;
    if let Ok(engine) = &engine {
        say_swept(docker::sweep(engine).await, options);
    }
    // After the containers, which would still write into the directories that the records name.
    sweep_for(options).await;
    let engine = engine?;
    on_free_ports(backend, options, async |ports| {
        let (server, facts) = DockerServer::start(&engine, backend, options, ports).await?;
        Ok(Running::docker(backend, server, facts))
    })
    .await
}

async fn native(backend: Backend, options: &StartOptions) -> Result<Running, StartError> {
    let program = Program::obtain(backend, options).await?;
    on_free_ports(backend, options, async |ports| {
        let (server, facts) = NativeServer::start(backend, &program, options, ports, None).await?;
        Ok(Running::native(backend, server, facts))
    })
    .await
}

/// Between the choice of a port and its use another process may take it: then others are tried, unless the
/// caller insists on this one.
async fn on_free_ports(
    backend: Backend,
    options: &StartOptions,
    mut start: impl AsyncFnMut((Port, Port)) -> Result<Running, StartError>,
) -> Result<Running, StartError> {
    let mut attempt = 1;
    loop {
        let ports = (client_port(backend, options)?, free_port()?);
        let number = ports.0.number();
        match start(ports).await {
            Err(error) if !error.is_port_clash() => return Err(error),
            Err(_) if wanted_port(options).is_some() => {
                return Err(StartError::PortInUse { backend, port: number });
            }
            Err(_) if attempt < PORT_ATTEMPTS => {
                tracing::info!(%backend, port = number, "port was taken meanwhile; another is tried");
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Removes what killed runs left behind: containers, where an engine answers, processes and temporary
/// directories. [`start`] does so by itself; a run that starts nothing may still want to. Returns one
/// sentence per thing removed.
pub async fn sweep(cache_dir: &Path) -> Vec<String> {
    let mut swept = match Engine::connect().await {
        Ok(engine) => docker::sweep(&engine).await,
        Err(_) => Vec::new(),
    };
    swept.extend(sweep_records(cache_dir).await);
    swept
}

/// Before a start: what killed runs left in this cache.
pub(crate) async fn sweep_for(options: &StartOptions) {
    say_swept(sweep_records(&options.cache_dir).await, options);
}

async fn sweep_records(cache_dir: &Path) -> Vec<String> {
    let cache_dir = cache_dir.to_owned();
    tokio::task::spawn_blocking(move || orphans::sweep(&cache_dir)).await.unwrap_or_default()
}

fn say_swept(swept: Vec<String>, options: &StartOptions) {
    for what in swept {
        options.progress.say(&format!("left behind by a killed run: {what}"));
    }
}

fn client_port(backend: Backend, options: &StartOptions) -> Result<Port, StartError> {
    match wanted_port(options) {
        None => free_port(),
        Some(port) => Port::claim(port).ok_or(StartError::PortInUse { backend, port }),
    }
}

fn wanted_port(options: &StartOptions) -> Option<u16> {
    options.port.filter(|&port| port != 0)
}

fn free_port() -> Result<Port, StartError> {
    Port::free().map_err(StartError::io("choose a port"))
}

/// A number that no other start has: for names, not for secrets.
pub(crate) fn unique() -> u128 {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let random = RandomState::new();
    (u128::from(random.hash_one(now)) << 64) | u128::from(random.hash_one(std::process::id()))
}
