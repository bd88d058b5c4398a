//! A cluster of several members, started together and broken one by one.
//!
//! Members know each other from the start, so their ports are chosen before any of them runs, and none is
//! ready before most of them are. Members are child processes.

use std::time::Duration;

use futures_util::future::join_all;

use crate::backend::Backend;
use crate::error::{FaultError, StartError};
use crate::native::{Membership, NativeServer, Program};
use crate::options::StartOptions;
use crate::ports::Port;
use crate::running::Running;
use crate::start::{PORT_ATTEMPTS, sweep_for, unique};

/// Members that run.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Running>,
}

impl Cluster {
    /// Each member, to be broken or asked for its pids.
    pub fn members(&self) -> &[Running] {
        &self.members
    }

    /// Where clients connect: every member's address, with commas.
    pub fn addresses(&self) -> String {
        self.members.iter().map(Running::address).collect::<Vec<_>>().join(",")
    }

    /// Stops every member, as [`Running::stop`]; all at once, since the last ones have no majority to say
    /// goodbye to.
    ///
    /// # Errors
    /// The first member's that could not be ended.
    pub async fn stop(&self, deadline: Duration) -> Result<(), FaultError> {
        join_all(self.members.iter().map(|member| member.stop(deadline))).await.into_iter().collect()
    }
}

/// Starts `nodes` members of `backend` (etcd or our own key-value store) and waits until each of them serves. Of the options those that
/// belong to one server alone (`via`, `external`, `image`, `port`, `data_dir`) are not used.
///
/// # Errors
/// See [`StartError`]; members that had been started are stopped again.
pub async fn start_cluster(
    backend: Backend,
    nodes: usize,
    options: &StartOptions,
) -> Result<Cluster, StartError> {
    if !matches!(backend, Backend::Etcd | Backend::Kv) {
        let reason = format!("{backend} is started as one server; clusters are of etcd and kv");
        return Err(StartError::Option { option: "backend", reason });
    }
    if !(1..=9).contains(&nodes) {
        return Err(StartError::Option {
            option: "nodes",
            reason: format!("{nodes} is not between 1 and 9"),
        });
    }
    sweep_for(options).await;
    let program = Program::obtain(backend, options).await?;
    let mut attempt = 1;
    loop {
        match start_members(backend, nodes, &program, options).await {
            Err(error) if error.is_port_clash() && attempt < PORT_ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

async fn start_members(
    backend: Backend,
    nodes: usize,
    program: &Program,
    options: &StartOptions,
) -> Result<Cluster, StartError> {
    let choose = || Port::free().map_err(StartError::io("choose a port"));
    let ports = (0..nodes).map(|_| Ok((choose()?, choose()?))).collect::<Result<Vec<_>, StartError>>()?;
    let name = options.name.as_deref().unwrap_or(backend.name());
    let id = unique();
    let members: Vec<(String, u16)> = ports
        .iter()
        .enumerate()
        .map(|(index, (client, peer))| {
            // A node of ours meets clients and peers at one port.
            let port = if backend == Backend::Kv { client } else { peer };
            (format!("{name}-{index}-{id:032x}"), port.number())
        })
        .collect();
    let starts = ports.into_iter().enumerate().map(|(index, ports)| {
        let membership = Membership { identity: members[index].0.clone(), members: members.clone() };
        let options =
            StartOptions { name: Some(format!("{name}-{index}")), data_dir: None, ..options.clone() };
        async move {
            let started = NativeServer::start(backend, program, &options, ports, Some(membership)).await;
            started.map(|(server, facts)| Running::native(backend, server, facts))
        }
    });
    let mut started = Vec::new();
    let mut failed: Option<StartError> = None;
    for result in join_all(starts).await {
        match result {
            Ok(member) => started.push(member),
            // A member that ended is the cause; that the others found no majority is the consequence.
            Err(error) if failed.is_none() || matches!(error, StartError::Exited { .. }) => {
                failed = Some(error);
            }
            Err(_) => {}
        }
    }
    match failed {
        None => Ok(Cluster { members: started }),
        Some(error) => Err(error),
    }
}
