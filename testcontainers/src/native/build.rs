//! Builds a pinned server into the cache, once.
//!
//! Builders of one cache take turns under a file lock. A build happens in a temporary directory inside the
//! cache and is renamed into place when it is whole, so a killed build leaves nothing that looks finished.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::program::{Invocation, on_path};
use crate::error::StartError;
use crate::log;
use crate::options::StartOptions;
use crate::server::{etcd, kafka, nats};

/// Prefix of a build's temporary directory.
const UNFINISHED: &str = ".build-";
/// How often a taken lock is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Where the cache keeps nats-server.
pub(crate) fn nats_path(cache: &Path) -> PathBuf {
    cache.join(format!("nats-server-{}", nats::VERSION))
}

/// Where the cache keeps etcd.
pub(crate) fn etcd_path(cache: &Path) -> PathBuf {
    cache.join(format!("etcd-{}", etcd::VERSION))
}

/// Where the cache keeps Kafka's jars.
pub(crate) fn kafka_path(cache: &Path) -> PathBuf {
    cache.join(format!("kafka-{}", kafka::VERSION))
}

/// What builds nats-server and etcd.
pub(crate) fn go(program: &'static str, options: &StartOptions) -> Result<PathBuf, StartError> {
    tool(program, "go", options, "install Go 1.25 or newer, or the server itself, or use docker")
}

/// What fetches Kafka's jars.
pub(crate) fn maven(options: &StartOptions) -> Result<PathBuf, StartError> {
    tool("kafka", "mvn", options, "install Maven, or put a Kafka distribution's bin on PATH, or use docker")
}

/// nats-server by `go install`.
pub(crate) async fn nats(options: &StartOptions) -> Result<PathBuf, StartError> {
    let go = go("nats-server", options)?;
    let target = nats_path(&options.cache_dir);
    let step = format!("building nats-server {} with go, once", nats::VERSION);
    build_once(options, &step, &target, "nats-server", |directory| {
        Ok(Invocation {
            program: go,
            args: vec![
                "install".to_owned(),
                "-trimpath".to_owned(),
                format!("{}@v{}", nats::GO_PACKAGE, nats::VERSION),
            ],
            env: vec![
                ("GOBIN".to_owned(), directory.display().to_string()),
                ("CGO_ENABLED".to_owned(), "0".to_owned()),
                // A cross build cannot be installed, and could not run here.
                ("GOOS".to_owned(), String::new()),
                ("GOARCH".to_owned(), String::new()),
            ],
            directory: Some(directory.to_owned()),
        })
    })
    .await
}

/// etcd by `go build` in a module of its own.
pub(crate) async fn etcd(options: &StartOptions) -> Result<PathBuf, StartError> {
    let go = go("etcd", options)?;
    let target = etcd_path(&options.cache_dir);
    let step = format!("building etcd {} with go, once", etcd::VERSION);
    build_once(options, &step, &target, "etcd", |directory| {
        let module = directory.join("go.mod");
        let text = format!("module queuebench/etcd\n\nrequire {} v{}\n", etcd::GO_PACKAGE, etcd::VERSION);
        fs::write(&module, text).map_err(StartError::io(format!("write {}", module.display())))?;
        Ok(Invocation {
            program: go,
            args: ["build", "-mod=mod", "-trimpath", "-o", "etcd", etcd::GO_PACKAGE]
                .map(str::to_owned)
                .to_vec(),
            env: [("CGO_ENABLED", "0"), ("GOOS", ""), ("GOARCH", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            directory: Some(directory.to_owned()),
        })
    })
    .await
}

/// Kafka's jars by Maven.
pub(crate) async fn kafka(options: &StartOptions) -> Result<PathBuf, StartError> {
    let mvn = maven(options)?;
    let target = kafka_path(&options.cache_dir);
    let step = format!("fetching kafka {} with maven, once", kafka::VERSION);
    build_once(options, &step, &target, "jars", |directory| {
        let pom = directory.join("pom.xml");
        fs::write(&pom, kafka_pom()).map_err(StartError::io(format!("write {}", pom.display())))?;
        Ok(Invocation {
            program: mvn,
            args: vec![
                "--batch-mode".to_owned(),
                "--quiet".to_owned(),
                "dependency:copy-dependencies".to_owned(),
                "-DincludeScope=runtime".to_owned(),
                format!("-DoutputDirectory={}", directory.join("jars").display()),
            ],
            env: Vec::new(),
            directory: Some(directory.to_owned()),
        })
    })
    .await
}

fn kafka_pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>queuebench</groupId><artifactId>kafka-jars</artifactId><version>1</version>\n  \
         <dependencies>\n{}{}{}  </dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", kafka::VERSION),
        dependency("org.apache.kafka", "kafka-tools", kafka::VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", kafka::LOG_BINDING_VERSION),
    )
}

fn tool(
    program: &'static str,
    tool: &'static str,
    options: &StartOptions,
    hint: &'static str,
) -> Result<PathBuf, StartError> {
    on_path(tool).ok_or_else(|| StartError::MissingToolchain {
        program,
        tool,
        cache: options.cache_dir.clone(),
        hint,
    })
}

/// Runs the build that leaves `product` in its directory, and moves that to `target`; at most once per
/// cache, within `prepare_limit`.
async fn build_once(
    options: &StartOptions,
    step: &str,
    target: &Path,
    product: &str,
    invocation: impl FnOnce(&Path) -> Result<Invocation, StartError>,
) -> Result<PathBuf, StartError> {
    let waited = options.prepare_limit;
    let build = async {
        let cache = &options.cache_dir;
        fs::create_dir_all(cache).map_err(StartError::io(format!("create {}", cache.display())))?;
        let _turn = lock(&cache.join("build.lock"), options).await?;
        if target.exists() {
            return Ok(target.to_owned());
        }
        remove_unfinished(cache);
        options.progress.say(step);
        let directory = TempDir::with_prefix_in(UNFINISHED, cache)
            .map_err(StartError::io(format!("create a directory in {}", cache.display())))?;
        let invocation = invocation(directory.path())?;
        let output = directory.path().join("build.log");
        let process = Process::spawn(&invocation, &output)
            .await
            .map_err(StartError::io(format!("run {}", invocation.program.display())))?;
        let status = process.exited().await;
        let made = directory.path().join(product);
        if !status.success() || !made.exists() {
            return Err(StartError::Build {
                command: invocation.command_line().join(" "),
                status: status.to_string(),
                tail: log::tail(&output, false),
            });
        }
        fs::rename(&made, target).map_err(StartError::io(format!("rename to {}", target.display())))?;
        Ok(target.to_owned())
    };
    tokio::time::timeout(waited, build)
        .await
        .unwrap_or_else(|_| Err(StartError::PrepareLimit { what: step.to_owned(), waited }))
}

/// Waits for this process's turn; released when the file is closed, also by death.
async fn lock(path: &Path, options: &StartOptions) -> Result<File, StartError> {
    let file = File::create(path).map_err(StartError::io(format!("create {}", path.display())))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    options.progress.say("waiting for another build into the same cache");
                    told = true;
                }
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
            Err(TryLockError::Error(error)) => {
                return Err(StartError::io(format!("lock {}", path.display()))(error));
            }
        }
    }
}

/// What killed builds left; safe because the lock is held.
fn remove_unfinished(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
