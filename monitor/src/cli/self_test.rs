//! The hidden subcommand that the agent starts at its own start to kill it: its self-test.

use crate::agent::survival;

pub(super) fn run() -> u8 {
    survival::victim()
}
