//! Starts a server by the first way that is open.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::backend::{Backend, Provisioner, Via};
use crate::error::StartError;
use crate::external::External;
use crate::native::{NativeServer, Program};
use crate::options::StartOptions;
use crate::orphans;
use crate::ports::Port;
use crate::probe::{self, NotReady, Target};
use crate::running::{Facts, Running};

/// How often a port that was taken between its choice and its use is replaced.
const PORT_ATTEMPTS: usize = 3;

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
        return connect(backend, external, &options).await;
    }
    let mut reasons = Vec::new();
    if options.via == Via::Docker {
        return Err(StartError::NoWay { backend, reasons });
    }
    match native(backend, &options).await {
        Err(error) if error.is_unavailable() && options.via == Via::Auto => {
            reasons.push((Provisioner::Native, error.to_string()));
            Err(StartError::NoWay { backend, reasons })
        }
        other => other,
    }
}

async fn connect(
    backend: Backend,
    external: External,
    options: &StartOptions,
) -> Result<Running, StartError> {
    let target =
        Target { backend, address: &external.address, identity: None, credentials: &external.credentials };
    let ready =
        probe::until_ready(&target, options.time_limit).await.map_err(|not_ready| match not_ready {
            NotReady::Never(reason) => {
                StartError::Unsuitable { backend, address: external.address.clone(), reason }
            }
            NotReady::Yet(last) => StartError::Unreachable {
                backend,
                address: external.address.clone(),
                waited: options.time_limit,
                last,
            },
        })?;
    let facts = Facts {
        version: ready.version.unwrap_or_default(),
        command: Vec::new(),
        configuration: Vec::new(),
        image: None,
    };
    Ok(Running::external(backend, external, facts))
}

async fn native(backend: Backend, options: &StartOptions) -> Result<Running, StartError> {
    sweep(options).await;
    let program = Program::obtain(backend, options).await?;
    let mut attempt = 1;
    loop {
        let ports = (client_port(backend, options)?, free_port()?);
        let number = ports.0.number();
        match NativeServer::start(backend, &program, options, ports).await {
            Ok((server, facts)) => return Ok(Running::native(backend, server, facts)),
            Err(StartError::Exited { tail, .. }) if options.port.is_some() && tail.is_port_clash() => {
                return Err(StartError::PortInUse { backend, port: number });
            }
            Err(StartError::Exited { tail, .. }) if tail.is_port_clash() && attempt < PORT_ATTEMPTS => {
                tracing::info!(%backend, port = number, "port was taken meanwhile; another is tried");
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn sweep(options: &StartOptions) {
    let cache = options.cache_dir.clone();
    let swept = tokio::task::spawn_blocking(move || orphans::sweep(&cache)).await.unwrap_or_default();
    for what in swept {
        options.progress.say(&format!("left behind by a killed run: {what}"));
    }
}

fn client_port(backend: Backend, options: &StartOptions) -> Result<Port, StartError> {
    match options.port {
        None | Some(0) => free_port(),
        Some(port) => Port::claim(port).ok_or(StartError::PortInUse { backend, port }),
    }
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
