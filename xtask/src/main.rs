//! `cargo xtask`: what plain cargo does not do. Parses and calls; one file per subcommand.

mod build;
mod command;
mod debian;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, build and test monitor.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get the toolchain of the kernel side (the others do it when something is missing)
    Setup,
    /// Build the release binary
    Build,
    /// Check and test everything; the tests on the real kernel need root
    Test,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Setup => setup::run_setup().map(drop),
        Task::Build => build::run_build(),
        Task::Test => test::run_tests(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
