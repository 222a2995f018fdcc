//! The static binary: runs on any Linux of its architecture, without a C library beside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::files::FOR_RAY;
use crate::architecture::Architecture;
use crate::command::{output, run};
use crate::cross;

/// The one of Cargo.toml that it is built with. Cargo puts what a cross build runs here into `target/` and this name, which must be
/// no folder of ours.
const PROFILE: &str = "static";

/// Builds it; the answer is its path.
pub(super) fn build(architecture: Architecture, epoch: u64) -> Result<PathBuf> {
    let target = architecture.target();
    let (mut command, more) = cross::cargo_for(architecture)?;
    command
        .args([
            "build",
            "--profile",
            PROFILE,
            "--locked",
            "--package",
            "monitor",
            "--bin",
            "monitor",
            "--bin",
            FOR_RAY,
            "--target",
            target,
        ])
        .env("CARGO_ENCODED_RUSTFLAGS", flags(more)?.join(cross::SEPARATOR))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env_remove("RUSTFLAGS");
    run(&format!("Building the static binary for {}", architecture.name()), &mut command)?;
    let binary = target_dir().join(target).join(PROFILE).join("monitor");
    check(&binary)?;
    check(&binary.with_file_name(FOR_RAY))?;
    Ok(binary)
}

/// The paths of this checkout and of cargo's home are private, and would change the bytes.
fn flags(more: Vec<String>) -> Result<Vec<String>> {
    let here = env::current_dir().context("the current folder")?;
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags: Vec<String> =
        ["-Ctarget-feature=+crt-static", "-Cstrip=symbols"].map(str::to_owned).into();
    flags.push(format!("--remap-path-prefix={}=/monitor", here.display()));
    if let Some(home) = home {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    flags.extend(more);
    Ok(flags)
}

/// It must need no library, nor name a folder of the machine that built it.
fn check(binary: &Path) -> Result<()> {
    let said =
        output(Command::new("readelf").args(["--wide", "--dynamic", "--program-headers"]).arg(binary))?;
    match needed(&said) {
        Some(line) => bail!("{} is not static: {line}", binary.display()),
        None => Ok(()),
    }
}

/// The line of readelf that names a library or the loader.
fn needed(readelf: &str) -> Option<&str> {
    readelf.lines().map(str::trim).find(|line| line.contains("(NEEDED)") || line.starts_with("INTERP"))
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new("target").to_path_buf(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn a_binary_that_needs_a_library_is_not_static() {
        assert_eq!(needed("  LOAD 0x0\n 0x1 (FLAGS_1) Flags: PIE\n"), None);
        assert!(needed(" 0x1 (NEEDED) Shared library: [libc.so.6]\n").is_some());
        assert!(needed("  INTERP 0x318 0x318\n").is_some());
    }
}
