//! Where a server's program comes from: the caller, `PATH`, the cache, or a build into the cache.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::build;
use crate::backend::Backend;
use crate::error::StartError;
use crate::options::StartOptions;
use crate::server::{etcd, kafka, kv, nats};

/// How long a program may take to state its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

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
    /// An executable.
    Etcd(PathBuf),
    /// An executable, and what comes before the arguments of a node.
    Kv { program: PathBuf, args: Vec<String> },
}

impl Program {
    /// Finds the program, or builds it into the cache.
    pub(crate) async fn obtain(backend: Backend, options: &StartOptions) -> Result<Self, StartError> {
        if let Some(found) = Self::find(backend, options).await? {
            return Ok(found);
        }
        match backend {
            Backend::Nats => Ok(Self::Nats(build::nats(options).await?)),
            Backend::Etcd => Ok(Self::Etcd(build::etcd(options).await?)),
            Backend::Kv => Err(no_kvnode(options)),
            Backend::Kafka => {
                let java = java(options)?;
                Ok(Self::Kafka { java, jars: build::kafka(options).await? })
            }
        }
    }

    /// Finds it without building; `None` if it would have to be built.
    pub(crate) async fn find(backend: Backend, options: &StartOptions) -> Result<Option<Self>, StartError> {
        if let Some(program) = &options.program {
            return Self::given(backend, program, options).map(Some);
        }
        match backend {
            Backend::Nats => {
                if let Some(program) = on_path("nats-server")
                    && is_recent(&program, nats::OLDEST).await
                {
                    return Ok(Some(Self::Nats(program)));
                }
                let cached = build::nats_path(&options.cache_dir);
                Ok(is_executable(&cached).then_some(Self::Nats(cached)))
            }
            Backend::Etcd => {
                if let Some(program) = on_path("etcd")
                    && is_recent(&program, etcd::OLDEST).await
                {
                    return Ok(Some(Self::Etcd(program)));
                }
                let cached = build::etcd_path(&options.cache_dir);
                Ok(is_executable(&cached).then_some(Self::Etcd(cached)))
            }
            Backend::Kv => Ok(kvnode().map(|program| Self::Kv { program, args: Vec::new() })),
            Backend::Kafka => {
                let cached = build::kafka_path(&options.cache_dir);
                let Some(jars) = distribution_on_path().or_else(|| cached.is_dir().then_some(cached)) else {
                    return Ok(None);
                };
                Ok(Some(Self::Kafka { java: java(options)?, jars }))
            }
        }
    }

    /// The tool that would build it into the cache.
    pub(crate) fn toolchain(backend: Backend, options: &StartOptions) -> Result<PathBuf, StartError> {
        match backend {
            Backend::Nats => build::go("nats-server", options),
            Backend::Etcd => build::go("etcd", options),
            Backend::Kv => Err(no_kvnode(options)),
            Backend::Kafka => java(options).and_then(|_| build::maven(options)),
        }
    }

    fn given(backend: Backend, program: &Path, options: &StartOptions) -> Result<Self, StartError> {
        let wrong = |expected: &str| StartError::Option {
            option: "program",
            reason: format!("{} is not {expected}", program.display()),
        };
        match backend {
            Backend::Nats if is_executable(program) => Ok(Self::Nats(program.to_owned())),
            Backend::Etcd if is_executable(program) => Ok(Self::Etcd(program.to_owned())),
            Backend::Kv if is_executable(program) => {
                Ok(Self::Kv { program: program.to_owned(), args: options.program_args.clone() })
            }
            Backend::Nats | Backend::Etcd | Backend::Kv => Err(wrong("an executable file")),
            Backend::Kafka if program.is_dir() => {
                Ok(Self::Kafka { java: java(options)?, jars: program.to_owned() })
            }
            Backend::Kafka => Err(wrong("a directory of Kafka's jars")),
        }
    }

    /// Its version, as far as it can be told without starting a server.
    pub(crate) async fn version(&self) -> Option<String> {
        match self {
            Self::Nats(program) | Self::Etcd(program) => {
                let text = stated_version(program).await?;
                Some(text.lines().next()?.trim().rsplit_once(['v', ' '])?.1.to_owned())
            }
            Self::Kv { .. } => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Kafka { jars, .. } => std::fs::read_dir(jars).ok()?.flatten().find_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned())
            }),
        }
    }

    /// Where it is, for a listing.
    pub(crate) fn location(&self) -> &Path {
        match self {
            Self::Nats(path) | Self::Etcd(path) | Self::Kv { program: path, .. } => path,
            Self::Kafka { jars, .. } => jars,
        }
    }

    /// What has to run once before the first start in an empty data directory.
    pub(crate) fn prepare(&self, config_dir: &Path, identity: &str) -> Option<Invocation> {
        match self {
            Self::Nats(_) | Self::Etcd(_) | Self::Kv { .. } => None,
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
            Self::Etcd(program) => Invocation {
                program: program.clone(),
                args: vec![
                    "--config-file".to_owned(),
                    config_dir.join(etcd::CONFIG_FILE).display().to_string(),
                ],
                ..Invocation::default()
            },
            Self::Kv { program, args } => {
                // Written by us a moment ago, so a file that cannot be read shows as a node without a name.
                let own = std::fs::read_to_string(config_dir.join(kv::CONFIG_FILE)).unwrap_or_default();
                let args = args.iter().cloned().chain(own.lines().map(str::to_owned)).collect();
                Invocation { program: program.clone(), args, ..Invocation::default() }
            }
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

/// The program beside our own (or beside the directory of test programs), else on `PATH`.
fn kvnode() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join("kvnode"));
    beside.into_iter().find(|path| is_executable(path)).or_else(|| on_path("kvnode"))
}

fn no_kvnode(options: &StartOptions) -> StartError {
    StartError::MissingToolchain {
        program: "kvnode",
        tool: "kvnode",
        cache: options.cache_dir.clone(),
        hint: "build it with `cargo build -p queuebench-system --bin kvnode`",
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

/// Whether this server knows what is asked of it. Distributions ship some that do not.
async fn is_recent(program: &Path, oldest: (u32, u32)) -> bool {
    let version = stated_version(program).await.and_then(|text| release(&text));
    let recent = version.is_some_and(|version| version >= oldest);
    if !recent {
        tracing::warn!(program = %program.display(), ?version, "too old and not used");
    }
    recent
}

async fn stated_version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(VERSION_LIMIT, output).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Major and minor version in `nats-server: v2.15.2` or `etcd Version: 3.4.23`, the first line.
fn release(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.lines().next()?.trim().rsplit_once(['v', ' '])?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_states_its_version() {
        assert_eq!(release("nats-server: v2.15.2\n"), Some((2, 15)));
        assert_eq!(release("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(release("etcd Version: 3.4.23\nGit SHA: x\n"), Some((3, 4)));
        assert!((2, 9) < nats::OLDEST);
        assert_eq!(release("something else"), None);
    }
}
