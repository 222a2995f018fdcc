//! The command line: one file per subcommand below `cli/`, each with its clap arguments and a `run` that
//! returns the exit status. stdout is data, stderr is diagnostics.

mod config;
pub mod domains;
mod explain;
pub mod roots;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keep this machine from running out of memory: watch, explain, and kill the right worker.
#[derive(Debug, Parser)]
#[command(name = "monitor", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Config(config::ConfigArgs),
    Domains(domains::Domains),
    Explain(explain::Args),
}

/// Exit statuses that scripts may rely on (SPEC 11). clap itself exits with 2 on a usage error.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It could not be done; stderr says why.
    pub const FAILED: u8 = 1;
    /// The command line or an input file is malformed.
    pub const USAGE: u8 = 2;
    /// No agent answers, or it refused the registration.
    pub const AGENT: u8 = 125;
    /// The worker was killed for memory and is not retried.
    pub const OUT_OF_MEMORY: u8 = 137;
}

/// Parses the command line, runs the subcommand and returns the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Config(args) => Ok(config::run(&args)),
        Command::Domains(args) => args.run(),
        Command::Explain(args) => Ok(explain::run(&args)),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("monitor: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}
