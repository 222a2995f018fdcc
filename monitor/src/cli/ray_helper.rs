//! The hidden subcommands that the agent and its helper for raylets start.

use std::path::PathBuf;

use super::{ask, exit};
use crate::ray::{self, EnterArguments};

/// Started by `monitor agent` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where procfs is mounted
    #[arg(long)]
    procfs: PathBuf,
    /// Serve the agents that come to this socket, as a service
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
}

pub(super) fn help(args: &Args) -> u8 {
    done(ray::help(&args.procfs, args.listen.as_deref()))
}

pub(super) fn enter(args: &EnterArguments) -> u8 {
    done(ray::enter(args))
}

fn done(result: std::io::Result<()>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(error) => {
            ask::complain(&format_args!("ray helper: {error}"));
            exit::FAILED
        }
    }
}
