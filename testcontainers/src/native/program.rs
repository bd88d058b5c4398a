//! Where a server's program comes from: the caller, `PATH`, the cache, or a build into the cache.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::build;
use crate::backend::Backend;
use crate::error::StartError;
use crate::options::StartOptions;
use crate::server::{kafka, nats};

/// One program call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
}

impl Invocation {
    /// As a user would type it, but for quoting.
    pub(crate) fn command_line(&self) -> Vec<String> {
        std::iter::once(self.program.display().to_string()).chain(self.args.iter().cloned()).collect()
    }
}

/// A server's program on this machine.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// An executable.
    Nats(PathBuf),
    /// `java` and the directory of Kafka's jars.
    Kafka { java: PathBuf, jars: PathBuf },
}

impl Program {
    /// Finds the program, or builds it into the cache.
    pub(crate) async fn obtain(backend: Backend, options: &StartOptions) -> Result<Self, StartError> {
        if let Some(found) = Self::find(backend, options)? {
            return Ok(found);
        }
        match backend {
            Backend::Nats => Ok(Self::Nats(build::nats(options).await?)),
            Backend::Kafka => {
                let java = java(options)?;
                Ok(Self::Kafka { java, jars: build::kafka(options).await? })
            }
        }
    }

    /// Finds it without building; `None` if it would have to be built.
    pub(crate) fn find(backend: Backend, options: &StartOptions) -> Result<Option<Self>, StartError> {
        if let Some(program) = &options.program {
            return Self::given(backend, program, options).map(Some);
        }
        Ok(match backend {
            Backend::Nats => on_path("nats-server")
                .or_else(|| Some(build::nats_path(&options.cache_dir)).filter(|path| is_executable(path)))
                .map(Self::Nats),
            Backend::Kafka => {
                let jars = distribution_on_path()
                    .or_else(|| Some(build::kafka_path(&options.cache_dir)).filter(|path| path.is_dir()));
                match jars {
                    Some(jars) => Some(Self::Kafka { java: java(options)?, jars }),
                    None => None,
                }
            }
        })
    }

    fn given(backend: Backend, program: &Path, options: &StartOptions) -> Result<Self, StartError> {
        let wrong = |expected: &str| StartError::Option {
            option: "program",
            reason: format!("{} is not {expected}", program.display()),
        };
        match backend {
            Backend::Nats if is_executable(program) => Ok(Self::Nats(program.to_owned())),
            Backend::Nats => Err(wrong("an executable file")),
            Backend::Kafka if program.is_dir() => {
                Ok(Self::Kafka { java: java(options)?, jars: program.to_owned() })
            }
            Backend::Kafka => Err(wrong("a directory of Kafka's jars")),
        }
    }

    /// Where it is, for a listing.
    pub(crate) fn location(&self) -> &Path {
        match self {
            Self::Nats(path) => path,
            Self::Kafka { jars, .. } => jars,
        }
    }

    /// What has to run once before the first start in an empty data directory.
    pub(crate) fn prepare(&self, config_dir: &Path, identity: &str) -> Option<Invocation> {
        match self {
            Self::Nats(_) => None,
            Self::Kafka { .. } => {
                let config = config_dir.join(kafka::CONFIG_FILE).display().to_string();
                let mut invocation = self.java_call(config_dir, &["-XX:TieredStopAtLevel=1"]);
                invocation.args.extend(
                    [
                        "kafka.tools.StorageTool",
                        "format",
                        "--ignore-formatted",
                        "-t",
                        identity,
                        "-c",
                        &config,
                    ]
                    .map(str::to_owned),
                );
                Some(invocation)
            }
        }
    }

    /// The server itself, with its configuration in `config_dir`.
    pub(crate) fn serve(&self, config_dir: &Path) -> Invocation {
        match self {
            Self::Nats(program) => Invocation {
                program: program.clone(),
                args: vec!["-c".to_owned(), config_dir.join(nats::CONFIG_FILE).display().to_string()],
                ..Invocation::default()
            },
            Self::Kafka { .. } => {
                let options: Vec<&str> =
                    kafka::HEAP.split_whitespace().chain(kafka::JVM.split_whitespace()).collect();
                let mut invocation = self.java_call(config_dir, &options);
                invocation.args.push("kafka.Kafka".to_owned());
                invocation.args.push(config_dir.join(kafka::CONFIG_FILE).display().to_string());
                invocation
            }
        }
    }

    fn java_call(&self, config_dir: &Path, options: &[&str]) -> Invocation {
        let Self::Kafka { java, jars } = self else { return Invocation::default() };
        let mut args: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        args.push(format!(
            "-Dlog4j2.configurationFile={}",
            config_dir.join(kafka::LOG_CONFIG_FILE).display()
        ));
        // Not expanded by a shell: the star is Java's own.
        args.push("-cp".to_owned());
        args.push(format!("{}/*", jars.display()));
        Invocation { program: java.clone(), args, ..Invocation::default() }
    }
}

fn java(options: &StartOptions) -> Result<PathBuf, StartError> {
    env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|java| is_executable(java))
        .or_else(|| on_path("java"))
        .ok_or_else(|| StartError::MissingToolchain {
            program: "kafka",
            tool: "java",
            cache: options.cache_dir.clone(),
            hint: "install a Java 17 runtime (Debian: openjdk-17-jre-headless) or set JAVA_HOME",
        })
}

/// The jars of a distribution whose `bin` directory is on `PATH`.
fn distribution_on_path() -> Option<PathBuf> {
    let script = on_path("kafka-server-start.sh")?.canonicalize().ok()?;
    let jars = script.parent()?.parent()?.join("libs");
    jars.is_dir().then_some(jars)
}

/// The first executable of this name on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
