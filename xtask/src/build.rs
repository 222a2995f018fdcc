//! `cargo xtask build`: the release binary. Plain `cargo build --release` does the same once setup has run.

use anyhow::Result;

use crate::command::{cargo, run};
use crate::setup;

/// Runs setup where something is missing, then builds.
pub(crate) fn run_build() -> Result<()> {
    setup::ensure()?;
    run("Building monitor", cargo().args(["build", "--release", "--package", "monitor"]))
}
