//! Builds into the cache, with a stand-in for the Go tool that counts its calls.

use std::path::Path;
use std::time::{Duration, Instant};

use queuebench_testcontainers::{Backend, Progress, StartError, StartOptions, Via, start};

use crate::common;

/// Runs `test` again with this script as `go` and an empty cache.
fn with_go(test: &str, directory: &Path, text: &str, real: &Path) {
    let tools = directory.join("bin");
    std::fs::create_dir(&tools).unwrap();
    common::script(&tools.join("go"), text);
    common::passes_again(test, |command| {
        command
            .env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
            .env("XDG_CACHE_HOME", directory)
            .env("REAL_NATS", real)
            .env("CALLS", directory.join("calls"));
    });
}

fn leftovers(cache: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".build-")).collect()
}

#[test]
fn two_that_build_at_once_build_once() {
    const NAME: &str = "building::two_that_build_at_once_build_once";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if common::is_again(NAME) {
        return runtime.block_on(async {
            let (steps, heard) = std::sync::mpsc::channel();
            let options = StartOptions {
                progress: Progress::new(move |step| steps.send(step.to_owned()).unwrap()),
                ..common::options(Via::Native)
            };
            let (one, two) =
                tokio::join!(start(Backend::Nats, options.clone()), start(Backend::Nats, options));
            for nats in [one.unwrap(), two.unwrap()] {
                nats.stop(common::STOP).await.unwrap();
            }
            let steps: Vec<String> = heard.try_iter().collect();
            assert_eq!(steps.iter().filter(|step| step.starts_with("building nats-server")).count(), 1);
            assert!(steps.iter().any(|step| step.contains("waiting for another build")), "{steps:?}");
        });
    }
    let Some(real) = runtime.block_on(common::nats_program()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("queuebench");
    std::fs::create_dir_all(cache.join(".build-of-a-killed-run")).unwrap();
    with_go(
        NAME,
        directory.path(),
        "echo call >> $CALLS; sleep 0.3; cp $REAL_NATS $GOBIN/nats-server",
        &real,
    );
    assert_eq!(std::fs::read_to_string(directory.path().join("calls")).unwrap(), "call\n");
    assert_eq!(leftovers(&cache), Vec::<String>::new());
}

#[test]
fn a_build_that_fails_is_quoted_and_leaves_nothing() {
    const NAME: &str = "building::a_build_that_fails_is_quoted_and_leaves_nothing";
    if common::is_again(NAME) {
        return tokio::runtime::Runtime::new().unwrap().block_on(async {
            let error = start(Backend::Nats, common::options(Via::Native)).await.unwrap_err();
            let StartError::Build { command, tail, .. } = &error else { panic!("{error}") };
            assert!(command.contains("go install"), "{command}");
            assert_eq!(tail.lines, ["no such module"]);
        });
    }
    let directory = tempfile::tempdir().unwrap();
    with_go(NAME, directory.path(), "echo no such module >&2; exit 1", Path::new("unused"));
    assert_eq!(leftovers(&directory.path().join("queuebench")), Vec::<String>::new());
}

#[test]
fn a_build_that_hangs_is_ended_at_its_limit() {
    const NAME: &str = "building::a_build_that_hangs_is_ended_at_its_limit";
    if common::is_again(NAME) {
        return tokio::runtime::Runtime::new().unwrap().block_on(async {
            let options =
                StartOptions { prepare_limit: Duration::from_secs(1), ..common::options(Via::Native) };
            let started = Instant::now();
            let error = start(Backend::Nats, options).await.unwrap_err();
            assert!(matches!(error, StartError::PrepareLimit { .. }), "{error}");
            assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        });
    }
    let directory = tempfile::tempdir().unwrap();
    with_go(NAME, directory.path(), "echo $$ > $CALLS; exec sleep 1000", Path::new("unused"));
    let pid = std::fs::read_to_string(directory.path().join("calls")).unwrap().trim().parse().unwrap();
    assert!(!common::is_alive(pid));
}
