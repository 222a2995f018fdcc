//! `monitor completions SHELL`: a completion script on stdout.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, ask};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash: monitor completions bash > /usr/share/bash-completion/completions/monitor")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "monitor", &mut script);
    ask::print(&String::from_utf8_lossy(&script))
}
