//! Notes which compiler and which commit the harness was built from, for the record of every run.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=QUEUEBENCH_RUSTC={version}");
    if let Some(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) {
        let changed = output("git", &["status", "--porcelain"]).is_some_and(|s| !s.is_empty());
        println!("cargo::rustc-env=QUEUEBENCH_COMMIT={commit}{}", if changed { "-dirty" } else { "" });
    }
    println!("cargo::rerun-if-changed=build.rs");
    // A path that is not there would make every build a rebuild.
    for path in ["../.git/HEAD", "../.git/refs/heads"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
