//! A real nats-server of a test's own: on a free port of loopback, in a directory that goes with it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use queuebench_system::queue::nats::NatsConfig;

use crate::ports::free_port;

/// The program, if this machine has it; prints why not otherwise, and fails when it is required.
pub(crate) fn program() -> Option<PathBuf> {
    let named = std::env::var_os("QUEUEBENCH_NATS_SERVER").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|file| file.is_file())
    };
    let found = named.filter(|file| file.is_file()).or_else(on_path);
    if found.is_none() {
        let required = std::env::var("QUEUEBENCH_REQUIRE")
            .is_ok_and(|list| list.split(',').any(|item| ["nats", "all"].contains(&item.trim())));
        assert!(!required, "nats is required, but there is no nats-server (QUEUEBENCH_NATS_SERVER or PATH)");
        println!("skipped: no nats-server on PATH and none named by QUEUEBENCH_NATS_SERVER");
    }
    found
}

pub(crate) struct Server {
    program: PathBuf,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) monitor_port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with these lines added to its configuration.
    pub(crate) fn start(extra: &str) -> Option<Self> {
        Self::start_with(extra, "")
    }

    pub(crate) fn start_with(extra: &str, jetstream: &str) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let (port, monitor_port) = (free_port(), free_port());
        let store = dir.path().join("js");
        let config = format!(
            "listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor_port}\n\
             jetstream {{ store_dir: {store:?}\n{jetstream} }}\n{extra}\n"
        );
        std::fs::write(dir.path().join("server.conf"), config).unwrap();
        let mut server = Self { program, dir, port, monitor_port, child: None };
        server.run();
        Some(server)
    }

    /// Starts the process on the data that is there, and waits for its port.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.path("server.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("log")).unwrap();
                panic!("nats-server does not listen:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops (`-STOP`) or resumes (`-CONT`) the process.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        // A stop reaches each thread on its own; until the last one stands still, the server answers.
        let deadline = Instant::now() + Duration::from_secs(10);
        while signal == "-STOP" && !stands_still(&pid) {
            assert!(Instant::now() < deadline, "the server does not stand still");
            std::thread::yield_now();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How many messages all streams hold, as the server says.
    pub(crate) fn stored(&self) -> u64 {
        self.jetstream("messages")
    }

    /// How many consumers all streams have, as the server says.
    pub(crate) fn consumers(&self) -> u64 {
        self.jetstream("consumers")
    }

    fn jetstream(&self, figure: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor_port)).unwrap();
        stream.write_all(b"GET /jsz HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let page: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        page[figure].as_u64().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self, stream: &str) -> NatsConfig {
        NatsConfig {
            servers: vec![self.url()],
            stream: stream.to_owned(),
            subject: format!("test.{stream}"),
            monitor_url: Some(format!("http://127.0.0.1:{}", self.monitor_port)),
            ..NatsConfig::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether every thread of a process is stopped.
fn stands_still(pid: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
    states.into_iter().all(|status| status.contains("State:\tT"))
}
