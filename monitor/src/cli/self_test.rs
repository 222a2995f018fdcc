//! The hidden subcommand that the agent starts at its own start to kill it: its drill.

use crate::agent::survival;

pub(super) fn run() -> u8 {
    survival::victim()
}
