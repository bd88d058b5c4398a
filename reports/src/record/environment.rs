//! The machine a run was made on.

use serde::{Deserialize, Serialize};

/// What must be known of the machine to judge a figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// As the kernel names it.
    pub cpu_model: String,
    /// Logical cores this process may use.
    pub cores: u32,
    /// Physical memory.
    pub memory_bytes: u64,
    /// Distribution and version.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Compiler that built the harness.
    pub rustc: String,
    /// Commit the harness was built from, `-dirty` with local changes; absent outside a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// The engine that answered, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_engine: Option<ContainerEngine>,
    /// Hypervisor or `none`; absent if it could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtualization: Option<String>,
    /// File system of the data directories, for instance `ext4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_filesystem: Option<String>,
    /// CPU frequency governor, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_governor: Option<String>,
    /// One-minute load average at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_average_1m: Option<f64>,
}

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEngine {
    /// For instance `docker`.
    pub name: String,
    /// Version of the server.
    pub version: String,
}
