//! The hidden subcommand that `monitor run` starts: the witness of signals to its process group.

use std::os::fd::RawFd;

use super::exit;
use crate::runner::witness::process;

/// Started by `monitor run` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The descriptor to answer on
    #[arg(long)]
    socket: RawFd,
}

pub(super) fn run(args: &Args) -> u8 {
    match process::witness(args.socket) {
        Ok(()) => exit::OK,
        Err(error) => {
            super::ask::complain(&error);
            exit::FAILED
        }
    }
}
