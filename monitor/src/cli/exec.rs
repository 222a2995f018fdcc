//! The hidden subcommand that `monitor run` starts: it waits to be registered and becomes the command.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::runner::Inherited;
use crate::runner::stub;

/// Started by `monitor run` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The descriptor to wait on
    #[arg(long)]
    channel: RawFd,
    /// The signals that the runner's parent blocks and ignores
    #[arg(long)]
    signals: Inherited,
    /// Be killed when the runner is
    #[arg(long)]
    ends_with_runner: bool,
    /// The agent's socket, for the command's environment
    #[arg(long)]
    socket: OsString,
    /// What to become
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> u8 {
    stub::become_command(args.channel, args.signals, args.ends_with_runner, &args.socket, &args.command)
}
