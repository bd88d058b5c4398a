//! A SIGKILL of the process that started servers leaves none behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;
use queuebench_testcontainers::{Backend, Running, StartOptions, Via, sweep};

use crate::common;

const REPORT: &str = "QUEUEBENCH_TEST_REPORT";

/// Starts a server in a second life of this test, kills that process with SIGKILL once the server runs, and
/// returns the server's pids and its directory.
async fn orphaned(test: &str, cache: &Path) -> Option<(Vec<i32>, PathBuf)> {
    let report = cache.join("report");
    let mut child = common::again(test).env(REPORT, &report).env("XDG_CACHE_HOME", cache).spawn().unwrap();
    common::eventually("the server of the other process", async || {
        report.exists() || child.try_wait().unwrap().is_some()
    })
    .await;
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let text = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("it ended by itself: {status}"));
    let mut words = text.split_whitespace();
    let directory = PathBuf::from(words.next().unwrap());
    Some((words.map(|pid| pid.parse().unwrap()).collect(), directory))
}

/// The second life: reports the server and waits for its own death.
async fn hold(server: &Running) {
    let report = PathBuf::from(std::env::var_os(REPORT).unwrap());
    let pids: Vec<String> = server.pids().iter().map(i32::to_string).collect();
    let directory = server.log_path().unwrap().parent().unwrap();
    let unfinished = report.with_extension("unfinished");
    std::fs::write(&unfinished, format!("{} {}", directory.display(), pids.join(" "))).unwrap();
    std::fs::rename(unfinished, report).unwrap();
    std::future::pending::<()>().await;
}

fn options(via: Via, program: Option<PathBuf>, label: &str) -> StartOptions {
    StartOptions { program, run_label: label.to_owned(), ..common::options(via) }
}

#[test]
fn a_native_server_dies_with_a_killed_parent_and_its_files_are_swept() {
    const NAME: &str = "death::a_native_server_dies_with_a_killed_parent_and_its_files_are_swept";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if common::is_again(NAME) {
        let program = std::env::var_os("PROGRAM").map(PathBuf::from);
        return runtime.block_on(async {
            let server = common::open(Backend::Nats, options(Via::Native, program, "killed")).await.unwrap();
            hold(&server).await;
        });
    }
    runtime.block_on(async {
        let Some(program) = common::nats_program().await else { return };
        // A cache of its own, so that no other test's start sweeps what this one looks at.
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir(cache.path().join("queuebench")).unwrap();
        let cached = cache.path().join("queuebench").join(program.file_name().unwrap());
        std::os::unix::fs::symlink(&program, cached).unwrap();
        let Some((pids, directory)) = orphaned(NAME, cache.path()).await else { return };
        assert!(!pids.is_empty());
        if Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .status()
            .is_ok_and(|s| s.success())
        {
            common::eventually("the kernel kills the server", async || {
                !pids.iter().any(|&pid| common::is_alive(pid))
            })
            .await;
        }
        assert!(directory.exists(), "somebody else has swept");
        let swept = sweep(&cache.path().join("queuebench")).await;
        assert!(swept.iter().any(|what| what.contains("killed")), "{swept:?}");
        assert!(!directory.exists());
        common::eventually("no process is left", async || !pids.iter().any(|&pid| common::is_alive(pid)))
            .await;
        assert!(sweep(&cache.path().join("queuebench")).await.is_empty());
    });
}

#[test]
fn a_container_of_a_killed_parent_is_swept() {
    const NAME: &str = "death::a_container_of_a_killed_parent_is_swept";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if common::is_again(NAME) {
        return runtime.block_on(async {
            let label = std::env::var("LABEL").unwrap_or_else(|_| "killed-container".to_owned());
            let server = common::open(Backend::Nats, options(Via::Docker, None, &label)).await.unwrap();
            hold(&server).await;
        });
    }
    runtime.block_on(async {
        let Some(first) = common::open(Backend::Nats, common::options(Via::Docker)).await else { return };
        first.stop(common::STOP).await.unwrap();
        let cache = tempfile::tempdir().unwrap();
        let Some((pids, _)) = orphaned(NAME, cache.path()).await else { return };
        sweep(&cache.path().join("queuebench")).await;
        common::eventually("the container is gone", async || containers("killed-container").await == 0).await;
        assert!(!pids.iter().any(|&pid| common::is_alive(pid)));
    });
}

/// How many containers of this run the engine has, running or not.
pub(crate) async fn containers(run: &str) -> usize {
    let docker = Docker::connect_with_defaults().unwrap();
    let label = format!("queuebench.run={run}");
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), vec![label])].into()),
        ..ListContainersOptions::default()
    };
    tokio::time::timeout(Duration::from_secs(10), docker.list_containers(Some(options)))
        .await
        .unwrap()
        .unwrap()
        .len()
}
