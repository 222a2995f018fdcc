//! `monitor config`: the settings in effect and where each comes from; `monitor config check FILE`: whether a
//! file may be used. Neither needs an agent or root, and neither changes anything.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::{self, ConfigFlags, Effective};
use crate::exit_status as exit;

/// Show the settings in effect, each with its source
///
/// A flag overrides the environment (MONITOR_ variables override Ray's), the environment overrides the file, and the
/// file overrides the default. Every value is checked, even one that is overridden.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 all valid; 1 output failed; 2 a setting or the file is wrong; each error is a line on \
                  stderr."
)]
pub(super) struct ConfigArgs {
    /// Print a JSON array of {key, value, source, note}; null is what the table shows as off, unset, none or auto.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ConfigFlags,
    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a file by itself, without flags and environment
    ///
    /// Prints all errors, as FILE:LINE: KEY: what is wrong. Exit status: 0 valid; 2 not.
    Check {
        /// TOML file with settings.
        file: PathBuf,
    },
}

/// Runs the subcommand; returns its exit status.
#[must_use]
pub(super) fn run(args: &ConfigArgs) -> u8 {
    let outcome = match &args.command {
        Some(ConfigCommand::Check { file }) => check(file),
        None => show(&args.flags, args.json),
    };
    match outcome {
        Ok(text) => print(&text),
        Err(errors) => {
            eprintln!("{errors}");
            exit::USAGE
        }
    }
}

fn show(flags: &ConfigFlags, json: bool) -> Result<String, String> {
    let resolved = config::load(flags).map_err(|errors| errors.to_string())?;
    Ok(if json { as_json(&resolved.settings) } else { as_table(&resolved.settings) })
}

fn check(file: &Path) -> Result<String, String> {
    let file = config::read_file(file).map_err(|error| error.to_string())?;
    let count = config::check(&file).map_err(|errors| errors.to_string())?;
    let settings =
        if count == 1 { "1 setting, valid".to_owned() } else { format!("{count} settings, all valid") };
    Ok(format!("{}: {settings}\n", file.path.display()))
}

fn as_json(settings: &[Effective]) -> String {
    let rows: Vec<_> = settings
        .iter()
        .map(|row| {
            json!({
                "key": row.setting.key,
                "value": row.json,
                "source": row.source.to_string(),
                "note": row.note,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}

fn as_table(settings: &[Effective]) -> String {
    // One long path must not push the sources of all others out of sight.
    const WIDEST: usize = 32;
    let width = |of: fn(&Effective) -> &str| {
        settings.iter().map(|row| of(row).chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0)
    };
    let (keys, values) = (width(|row| row.setting.key), width(|row| &row.text));
    let mut table = format!("{:keys$}  {:values$}  source\n", "key", "value");
    for row in settings {
        let note = row.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let line = format!("{:keys$}  {:values$}  {}{note}", row.setting.key, row.text, row.source);
        table += &one_line(&line);
        table.push('\n');
    }
    table
}

/// A path may hold anything; control characters in it neither break the table nor reach the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `print!` panics when the reader is gone, as in `monitor config | head -1`.
fn print(text: &str) -> u8 {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => exit::OK,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            eprintln!("monitor config: standard output: {error}");
            exit::FAILED
        }
    }
}
