//! Becoming one of the programs of the tests crate. What they take and do is theirs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, run};
use crate::setup;

/// Runs setup where something is missing, builds `what` optimized, and becomes the program `name`. Does not return if all
/// is well.
pub(crate) fn become_it(what: &str, name: &str, options: &[OsString]) -> Result<()> {
    let program = build(what, name)?;
    // In place of this process: Ctrl-C and the exit status are then its own, and the shell waits for its clean-up.
    let error = Command::new(&program).args(options).exec();
    Err(error).with_context(|| program.display().to_string())
}

/// Runs setup where something is missing, builds `what` optimized; where the program `name` is.
pub(crate) fn build(what: &str, name: &str) -> Result<PathBuf> {
    setup::ensure()?;
    run(
        &format!("Building {what}"),
        cargo().args(["build", "--release", "--package", "monitor", "--package", "monitor-tests", "--bins"]),
    )?;
    Ok(target_dir().join("release").join(name))
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new("target").to_path_buf(), PathBuf::from)
}
