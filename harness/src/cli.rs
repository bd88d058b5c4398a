//! The command line: what can be said, and which exit code follows.
//!
//! Results go to standard output, progress and logs to standard error.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use queuebench_system::queue::Durability;
use queuebench_testcontainers::Via;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::profile::{Profile, ProfileError};

mod backends;
mod capacity;
mod compare;
mod gates;
mod pipeline;
mod profiles;
mod report;
mod serve;
mod shard;
mod signals;
mod up;
mod verify;

/// Compares message queues on this machine: starts the real systems, replays load, proves what arrived.
#[derive(Debug, Parser)]
#[command(name = "queuebench", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare systems of one kind under the same load
    #[command(subcommand)]
    Compare(Compare),
    /// Run a profile on the subjects that it names
    Run {
        /// The profile's file
        file: PathBuf,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Find the highest rate that holds an objective
    Capacity(capacity::Capacity),
    /// Draw a run again, put two side by side, or hold one against gates
    Report(report::Report),
    /// What can be started here, how, and which version; and why not
    Backends(backends::Backends),
    /// Start one subject's servers and print the address, until Ctrl-C
    Up(up::Up),
    /// Judge a recorded history of a store: is it linearizable?
    Verify(verify::Verify),
    /// The built-in profiles
    #[command(subcommand)]
    Profiles(profiles::Profiles),
    #[command(hide = true)]
    Serve(serve::Serve),
    /// Run one shard of a trial in this process (for schedulers and for queuebench itself)
    Shard(shard::Shard),
    /// Join what all shards of a trial left into one result
    Merge(shard::Merge),
    /// A node of our own store, for comparisons that start one
    #[command(hide = true)]
    Kvnode(Box<queuebench_system::kv::program::Args>),
    /// A node of our own cluster, for runs that start one
    #[command(hide = true)]
    Clusternode(Box<queuebench_system::cluster::program::Args>),
}

/// A node of ours, with a log and an exit code of its own.
#[derive(Debug)]
pub enum Node {
    /// Of the key-value store.
    Store(Box<queuebench_system::kv::program::Args>),
    /// Of a coordination cluster.
    Cluster(Box<queuebench_system::cluster::program::Args>),
}

impl Node {
    /// Runs it until it is asked to stop or fails.
    pub fn run(self) -> std::process::ExitCode {
        match self {
            Self::Store(args) => queuebench_system::kv::program::run(*args),
            Self::Cluster(args) => queuebench_system::cluster::program::run(*args),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Compare {
    /// Message queues: memory, NATS JetStream, Kafka, and both at once
    Queues {
        /// Subjects, separated by commas
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "LIST",
            default_value = "memory,nats,kafka,composite"
        )]
        backends: Vec<crate::subject::Backend>,
        /// A built-in profile or a file
        #[arg(long, value_name = "NAME|FILE", default_value = "standard")]
        profile: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// The HTTP pipeline (gateway, ingest, processor) over each queue
    Pipeline {
        /// Queues that it runs over, separated by commas
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "LIST",
            default_value = "memory,nats,kafka,composite"
        )]
        backends: Vec<crate::subject::Backend>,
        /// A built-in profile or a file
        #[arg(long, value_name = "NAME|FILE", default_value = "pipeline")]
        profile: String,
        #[command(flatten)]
        shape: pipeline::Shape,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Key-value stores, three nodes each: our own and etcd
    Kv {
        /// Subjects, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "kv,etcd")]
        backends: Vec<crate::subject::Backend>,
        /// A built-in profile or a file
        #[arg(long, value_name = "NAME|FILE", default_value = "kv")]
        profile: String,
        #[command(flatten)]
        options: RunOptions,
    },
}

/// What every run understands.
#[derive(Debug, Args)]
struct RunOptions {
    /// Passes over each subject, instead of the profile's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: Option<u32>,
    /// Processes that load a subject at once, instead of the profile's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Option<u16>,
    /// How servers may be started
    #[arg(long, value_enum, default_value = "auto")]
    via: Way,
    /// What an acknowledgement must survive
    #[arg(long, value_enum, value_name = "CLASS")]
    durability: Option<Class>,
    /// Of payloads, keys, arrivals and trial order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Subjects that must not be skipped, separated by commas; `all` for every one
    #[arg(long, value_delimiter = ',', value_name = "LIST", env = "QUEUEBENCH_REQUIRE")]
    require: Vec<String>,
    /// Where run folders go
    #[arg(long, value_name = "DIR", default_value = "reports/runs")]
    out: PathBuf,
    /// Print the record's summary as JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gates: gates::GateOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// An external address, else docker, else native
    Auto,
    /// Containers only
    Docker,
    /// Child processes only
    Native,
}

impl From<Way> for Via {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Docker => Self::Docker,
            Way::Native => Self::Native,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Class {
    /// Nothing: memory of a process
    Volatile,
    /// The death of the server process
    ProcessCrash,
    /// The loss of power
    PowerLoss,
}

impl From<Class> for Durability {
    fn from(class: Class) -> Self {
        match class {
            Class::Volatile => Self::Volatile,
            Class::ProcessCrash => Self::ProcessCrash,
            Class::PowerLoss => Self::PowerLoss,
        }
    }
}

impl Cli {
    /// Whether it installs a log of its own: a service of the pipeline does.
    #[must_use]
    pub fn logs_itself(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }

    /// What to be instead of the command line: a node of our own.
    ///
    /// # Errors
    /// Gives the command line back where it is one.
    pub fn node(self) -> Result<Node, Box<Self>> {
        match self.command {
            Command::Kvnode(args) => Ok(Node::Store(args)),
            Command::Clusternode(args) => Ok(Node::Cluster(args)),
            command => Err(Box::new(Self { command })),
        }
    }

    /// Does what was asked. Errors are printed here, so that the program ends in one place.
    #[must_use]
    pub fn run(self) -> Exit {
        let result = match self.command {
            Command::Compare(Compare::Queues { backends, profile, options }) => {
                compare::queues(&backends, &profile, options)
            }
            Command::Compare(Compare::Pipeline { backends, profile, shape, options }) => {
                pipeline::compare(&backends, &profile, &shape, options)
            }
            Command::Compare(Compare::Kv { backends, profile, options }) => {
                compare::stores(&backends, &profile, options)
            }
            Command::Run { file, options } => compare::file(&file, options),
            Command::Verify(verify) => verify.run(),
            Command::Capacity(capacity) => capacity.run(),
            Command::Report(report) => report.run(),
            Command::Backends(backends) => backends.run(),
            Command::Up(up) => up.run(),
            Command::Profiles(profiles) => profiles.run(),
            Command::Serve(serve) => serve.run(),
            Command::Shard(shard) => shard.run(),
            Command::Merge(merge) => merge.run(),
            Command::Kvnode(_) | Command::Clusternode(_) => {
                Err(anyhow::anyhow!("a node runs instead of the command line"))
            }
        };
        result.unwrap_or_else(|error| {
            say(&format!("error: {error:#}"));
            exit_of(&error)
        })
    }
}

/// Bad input is the user's to mend (2); anything else failed (1).
fn exit_of(error: &anyhow::Error) -> Exit {
    let is_usage = error.chain().any(|cause| {
        cause.is::<Usage>() || cause.is::<ProfileError>() || cause.is::<crate::subject::SettingsError>()
    });
    if is_usage { Exit::Usage } else { Exit::Failed }
}

/// Something on the command line is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn load_profile(name: &str, options: &RunOptions) -> anyhow::Result<Profile> {
    let mut profile = Profile::load(name)?;
    if let Some(trials) = options.trials {
        profile.trials = trials;
    }
    if let Some(shards) = options.shards {
        profile.shards = shards;
        profile.check()?;
    }
    Ok(profile)
}

/// A runtime for what is not load.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// A token that the first Ctrl-C or SIGTERM cancels; the second ends the process.
fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    signals::cancel_on_signal(stop.clone());
    stop
}

#[expect(clippy::print_stderr, reason = "errors and remarks of the command line")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn print(text: &str) {
    use std::io::Write as _;
    // A reader that has gone (`| head`) wants no more.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
