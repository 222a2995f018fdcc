//! `cargo xtask bench`: builds the measurements and becomes them. What is measured is in `tests/src/bin/bench/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::program;

/// What is given on to the measurements.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the measurements; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs setup where something is missing, and builds optimized. Does not return if all is well.
pub(crate) fn run_bench(options: &Options) -> Result<()> {
    program::become_it("the measurements", "bench", &options.options)
}
