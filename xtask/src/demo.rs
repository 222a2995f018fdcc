//! `cargo xtask demo`: builds the demonstration and becomes it. What it shows is in `tests/src/bin/demo/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::program;

/// What is given on to the demonstration.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the demonstration; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs setup where something is missing, and builds optimized: the demonstration measures. Does not return if all is
/// well.
pub(crate) fn run_demo(options: &Options) -> Result<()> {
    program::become_it("the demonstration", "demo", &options.options)
}
