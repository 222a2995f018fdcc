//! The hidden subcommand that the agent starts: thaws what a killed agent left frozen.

use super::exit;

pub(super) fn run() -> u8 {
    match crate::agent::thawer() {
        Ok(()) => exit::OK,
        Err(error) => {
            super::ask::complain(&error);
            exit::FAILED
        }
    }
}
