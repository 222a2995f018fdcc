//! `monitor man DIR`: writes the manual pages, one for each subcommand. They are made from the help texts and the table
//! of settings, so that they say what the program does.

mod page;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::{Cli, exit};

/// Write the manual pages (monitor.1, monitor-agent.1, ...) to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "To read one: man DIR/monitor-agent.1")]
pub(super) struct Args {
    /// The directory; it is created if needed
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// # Errors
/// If a page can't be written.
pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    write(&args.directory).with_context(|| format!("cannot write to {}", args.directory.display()))?;
    Ok(exit::OK)
}

fn write(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    write_all(&whole, directory)
}

fn write_all(command: &Command, directory: &Path) -> std::io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_all(inner, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(directory.join(format!("{name}.1")), page::of(command)?)
}
