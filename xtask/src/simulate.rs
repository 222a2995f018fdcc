//! `cargo xtask simulate`: builds the simulation and becomes it. What it does is in `tests/src/bin/simulate/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::program;

/// What is given on to the simulation.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the simulation: `--days N`, `--workers N`, `--cgroups N`; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs setup where something is missing, and builds optimized. Does not return if all is well.
pub(crate) fn run_simulation(options: &Options) -> Result<()> {
    program::become_it("the simulation", "simulate", &options.options)
}
