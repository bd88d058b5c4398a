//! Starts that fail: a typed error in time that quotes the server's log, and nothing left running.

use std::path::Path;
use std::time::{Duration, Instant};

use queuebench_testcontainers::{
    Availability, Backend, Provisioner, StartError, StartOptions, Via, start, survey,
};

use crate::common;

fn with_program(program: &Path) -> StartOptions {
    StartOptions { program: Some(program.to_owned()), ..common::options(Via::Native) }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let Some(program) = common::nats_program().await else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = StartOptions { port: Some(port), ..with_program(&program) };
    let error = start(Backend::Nats, options).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { backend: Backend::Nats, port: named } if named == port));
    assert!(error.to_string().contains(&port.to_string()));
}

#[tokio::test]
async fn a_port_that_is_taken_meanwhile_is_replaced_unless_it_was_asked_for() {
    let Some(real) = common::nats_program().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (program, once) = (directory.path().join("clash"), directory.path().join("once"));
    // The first start finds its port taken, as nats-server says it.
    common::script(
        &program,
        &format!(
            "if mkdir {once} 2>/dev/null; then echo 'listen tcp: bind: address already in use'; exit 1; fi\n\
             exec {real} \"$@\"",
            once = once.display(),
            real = real.display(),
        ),
    );
    let options = with_program(&program);
    let nats = start(Backend::Nats, options.clone()).await.unwrap();
    nats.stop(common::STOP).await.unwrap();

    std::fs::remove_dir(&once).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = start(Backend::Nats, StartOptions { port: Some(free), ..options }).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { port, .. } if port == free), "{error}");
}

#[tokio::test]
async fn a_program_that_never_listens_is_given_up_in_time_and_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (program, pid_file) = (directory.path().join("idle"), directory.path().join("pid"));
    common::script(&program, &format!("echo I am idle\necho $$ > {}\nexec sleep 1000", pid_file.display()));
    let started = Instant::now();
    let options = StartOptions { time_limit: Duration::from_secs(3), ..with_program(&program) };
    let error = start(Backend::Nats, options).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let StartError::NotReady { provisioner: Provisioner::Native, tail, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(tail.lines, ["I am idle"]);
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(!common::is_alive(pid));
}

#[tokio::test]
async fn a_program_that_ends_is_quoted_with_its_last_lines() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("ends");
    common::script(&program, "for n in $(seq 100); do echo line $n; done; exit 3");
    let error = start(Backend::Nats, with_program(&program)).await.unwrap_err();
    let StartError::Exited { status, tail, .. } = &error else { panic!("{error}") };
    assert!(status.contains('3'), "{status}");
    assert_eq!(tail.lines.len(), 20);
    assert_eq!(tail.lines.last().unwrap(), "line 100");
    assert!(error.to_string().contains("| line 100"));
}

#[tokio::test]
async fn a_broken_nats_configuration_is_quoted() {
    let Some(real) = common::nats_program().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (program, config) = (directory.path().join("broken"), directory.path().join("broken.conf"));
    std::fs::write(&config, "jetstream { store_dir: \n").unwrap();
    common::script(&program, &format!("exec {} -c {}", real.display(), config.display()));
    let error = start(Backend::Nats, with_program(&program)).await.unwrap_err();
    let StartError::Exited { tail, .. } = &error else { panic!("{error}") };
    assert!(tail.lines.iter().any(|line| line.contains("Parse error")), "{error}");
}

#[tokio::test]
async fn a_kafka_directory_that_cannot_be_formatted_is_quoted() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("meta.properties"), "version=nonsense\n").unwrap();
    let options = StartOptions { data_dir: Some(data.path().to_owned()), ..common::options(Via::Native) };
    match start(Backend::Kafka, options).await.unwrap_err() {
        StartError::Exited { backend: Backend::Kafka, tail, .. } => {
            assert!(!tail.lines.is_empty());
        }
        error @ StartError::MissingToolchain { .. } => {
            queuebench_testcontainers::require::skip(&["kafka", "native"], &error);
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_option_error() {
    let error = start(Backend::Nats, with_program(Path::new("/nowhere/nats-server"))).await.unwrap_err();
    assert!(matches!(error, StartError::Option { option: "program", .. }), "{error}");
}

#[test]
fn a_machine_with_nothing_says_what_is_missing() {
    const NAME: &str = "failures::a_machine_with_nothing_says_what_is_missing";
    if common::is_again(NAME) {
        return tokio::runtime::Runtime::new().unwrap().block_on(nothing_is_here());
    }
    let empty = tempfile::tempdir().unwrap();
    common::passes_again(NAME, |command| {
        command
            .env("PATH", empty.path())
            .env("XDG_CACHE_HOME", empty.path())
            .env("DOCKER_HOST", format!("unix://{}/no.sock", empty.path().display()))
            .env_remove("JAVA_HOME");
    });
}

async fn nothing_is_here() {
    for (backend, tool) in [(Backend::Nats, "go"), (Backend::Kafka, "java")] {
        let error = start(backend, common::options(Via::Native)).await.unwrap_err();
        match &error {
            StartError::MissingToolchain { tool: named, .. } => assert_eq!(*named, tool),
            other => panic!("{other}"),
        }
        let error = start(backend, common::options(Via::Docker)).await.unwrap_err();
        assert!(matches!(error, StartError::Engine { .. }), "{error}");
        let error = start(backend, common::options(Via::Auto)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StartError::NoWay { .. }), "{text}");
        assert!(text.contains("docker: no container engine answers") && text.contains(tool), "{text}");
        for way in survey(backend, &common::options(Via::Auto)).await {
            assert!(matches!(way.availability, Availability::Closed { .. }), "{way:?}");
        }
    }
}
