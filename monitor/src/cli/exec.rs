//! The hidden subcommand that `monitor run` starts: it waits to be registered and becomes the command.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::runner::stub;

/// Started by `monitor run` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The descriptor to wait on
    #[arg(long)]
    gate: RawFd,
    /// What to become
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> u8 {
    stub::become_command(args.gate, &args.command)
}
