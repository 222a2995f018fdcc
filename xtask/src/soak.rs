//! `cargo xtask soak`: builds the soak and becomes it. What it does is in `tests/src/bin/soak/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::program;

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
    program::become_it("the soak", "soak", &options.options)
}
