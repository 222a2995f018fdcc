//! The hidden subcommand that the agent starts: the helper that runs `on_kill` and `on_approach`.

use super::exit;

/// Started by `monitor agent` only.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> u8 {
    match crate::callbacks::helper::run() {
        Ok(()) => exit::OK,
        Err(error) => {
            super::ask::complain(&error);
            exit::FAILED
        }
    }
}
