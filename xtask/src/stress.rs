//! `cargo xtask stress`: builds that program and becomes it. What it does is in `tests/src/bin/stress/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::program;

/// What is given on to it.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Its options: `--only NAME,...`, `--rounds N`, `--seconds N`; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs setup where something is missing, and builds optimized. Does not return if all is well.
pub(crate) fn run_stress(options: &Options) -> Result<()> {
    program::become_it("the stress", "stress", &options.options)
}
