//! `cargo xtask soak`: builds the soak and becomes it. What it does is in `tests/src/bin/soak/`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, run};
use crate::setup;

/// What is given on to the soak.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the soak: `--minutes N`, `--seed S`; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs setup where something is missing, and builds optimized. Does not return if all is well.
pub(crate) fn run_soak(options: &Options) -> Result<()> {
    setup::ensure()?;
    run(
        "Building the soak",
        cargo().args(["build", "--release", "--package", "monitor", "--package", "monitor-tests", "--bins"]),
    )?;
    let program = target_dir().join("release/soak");
    // In place of this process: Ctrl-C and the exit status are then its own, and the shell waits for its clean-up.
    let error = Command::new(&program).args(&options.options).exec();
    Err(error).with_context(|| program.display().to_string())
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new("target").to_path_buf(), PathBuf::from)
}
