//! The hidden subcommand that the agent starts: the brake's releaser.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::exit;
use crate::kernel::workers::WorkerFds;

/// Started by `monitor agent` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The descriptor of the map of workers
    #[arg(long)]
    workers: RawFd,
    /// The descriptor of the map of when they were let go
    #[arg(long)]
    let_go: RawFd,
    /// The descriptor of the cells
    #[arg(long)]
    cells: RawFd,
    /// How long the agent may show no sign of life
    #[arg(long)]
    patience_ms: u64,
    /// Where procfs is mounted
    #[arg(long)]
    procfs: PathBuf,
}

pub(super) fn run(args: &Args) -> u8 {
    let patience = Duration::from_millis(args.patience_ms);
    let workers = WorkerFds { entries: args.workers, let_go: args.let_go };
    match crate::agent::releaser(workers, args.cells, &args.procfs, patience) {
        Ok(()) => exit::OK,
        Err(error) => {
            super::ask::complain(&error);
            exit::FAILED
        }
    }
}
