//! `cargo xtask`: what plain cargo does not do. Parses and calls; one file per subcommand.

mod build;
mod command;
mod debian;
mod setup;
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
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Setup => setup::run_setup().map(drop),
        Task::Build => build::run_build(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
