//! The programs as a deployment starts them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Http, eventually};

const PROGRAMS: [(&str, &str); 4] = [
    ("api-gateway", env!("CARGO_BIN_EXE_api-gateway")),
    ("ingest", env!("CARGO_BIN_EXE_ingest")),
    ("processor", env!("CARGO_BIN_EXE_processor")),
    ("grpc-server", env!("CARGO_BIN_EXE_grpc-server")),
];

pub(crate) fn command(name: &str) -> Command {
    let path = PROGRAMS.iter().find(|(known, _)| *known == name).expect("a program").1;
    let mut command = Command::new(path);
    command.env("BIND_HOST", "127.0.0.1").stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A running program; killed when the test ends.
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.split("http://").nth(1).unwrap_or_else(|| panic!("{line:?}")).trim().parse().unwrap();
        Self { child, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let memory = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        memory.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_lists_the_environment_and_exits_0() {
    for (name, variable) in [
        ("api-gateway", "API_PORT"),
        ("ingest", "INGEST_PORT"),
        ("processor", "COMPOSITE_STRATEGY"),
        ("grpc-server", "GRPC_ADDR"),
    ] {
        let output = command(name).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(variable) && text.contains("--config"), "{text}");
    }
}

#[test]
fn settings_that_cannot_work_exit_1_with_the_reason() {
    for (queue_type, variable, value) in [
        ("rabbit", "QUEUE_TYPE", "rabbit"),
        ("memory", "PROCESSOR_WORKERS", "0"),
        ("composite", "COMPOSITE_STRATEGY", "best"),
        ("composite", "COMPOSITE_PROVIDERS", "memory, rabbit"),
    ] {
        let mut command = command("processor");
        command.env("QUEUE_TYPE", queue_type).env(variable, value);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(text.contains(variable) && text.contains(value), "{text}");
    }
    assert_eq!(command("ingest").arg("--no-such-flag").status().unwrap().code(), Some(2));
}

#[tokio::test]
async fn three_programs_serve_and_end_on_either_signal() {
    let http = Http::new();
    let mut processor = Running::start({
        let mut command = command("processor");
        command.env("PROCESSOR_PORT", "0").env("QUEUE_SIZE", "50000");
        // Everything through a composite without a broker; others are in the tests with real ones.
        command.env("QUEUE_TYPE", "composite").env("COMPOSITE_PROVIDERS", "memory, memory");
        command
    });
    let mut ingest = Running::start({
        let mut command = command("ingest");
        command.env("INGEST_PORT", "0").env("PROCESSOR_URL", processor.url());
        command
    });
    let mut gateway = Running::start({
        let mut command = command("api-gateway");
        command.env("API_PORT", "0").env("INGEST_URL", ingest.url()).env("PROCESSOR_URL", processor.url());
        command
    });
    // The steps of the integration test: ten messages, ten answers, ten processed.
    for index in 0..10 {
        let body = format!(r#"{{"source":"test-{index}","data":"x","metadata":{{"seq":"{index}"}}}}"#);
        assert_eq!(http.post(gateway.address, "/api/v1/ingest", &body).await.status, 200);
    }
    eventually(
        "ten processed",
        || http.json(processor.address, "/stats"),
        |stats| stats["pool"]["ProcessedCount"] == 10,
    )
    .await;
    let status = http.json(gateway.address, "/api/v1/status").await;
    assert_eq!(status["ingest"]["stats"]["TotalSent"], 10);
    gateway.signal("-TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    ingest.signal("-INT");
    assert_eq!(ingest.ended().await.code(), Some(0));
    processor.signal("-TERM");
    assert_eq!(processor.ended().await.code(), Some(0));
}
