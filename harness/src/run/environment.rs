//! The machine, as far as figures depend on it.

use std::fs;
use std::path::Path;
use std::process::Command;

use procfs::Current as _;
use queuebench_reports::record::{ContainerEngine, Environment};

/// What can be told of this machine without privileges. What cannot be told is left empty.
pub fn gather(out: &Path) -> Environment {
    let cpu = procfs::CpuInfo::current().ok();
    let memory = procfs::Meminfo::current().ok();
    Environment {
        cpu_model: cpu.as_ref().and_then(|c| c.model_name(0)).unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory.map_or(0, |m| m.mem_total),
        os: os_release(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        rustc: env!("QUEUEBENCH_RUSTC").to_owned(),
        git_commit: option_env!("QUEUEBENCH_COMMIT").map(str::to_owned),
        container_engine: container_engine(),
        virtualization: virtualization(cpu.as_ref()),
        data_filesystem: filesystem(out),
        cpu_governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|g| g.trim().to_owned()),
        load_average_1m: procfs::LoadAverage::current().ok().map(|l| f64::from(l.one)),
    }
}

fn os_release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Asks the command-line client, which answers within its own short time-out where no engine listens.
fn container_engine() -> Option<ContainerEngine> {
    let asked = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output().ok()?;
    let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    (asked.status.success() && !version.is_empty())
        .then(|| ContainerEngine { name: "docker".to_owned(), version })
}

fn virtualization(cpu: Option<&procfs::CpuInfo>) -> Option<String> {
    let hypervisor = cpu?.flags(0)?.contains(&"hypervisor");
    if !hypervisor {
        return Some("none".to_owned());
    }
    let product = fs::read_to_string("/sys/class/dmi/id/product_name").unwrap_or_default();
    let product = product.trim();
    Some(if product.is_empty() {
        "virtual machine".to_owned()
    } else {
        format!("virtual machine ({product})")
    })
}

/// The file system of the mount point nearest to `path`.
fn filesystem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len())
        .map(|mount| mount.fs_type)
}
