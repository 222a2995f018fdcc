//! `monitor config`: the settings in effect and where each comes from; `monitor config check FILE`: whether a
//! file may be used. Neither needs an agent or root, and neither changes anything.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::callbacks;
use crate::cli::ask;
use crate::config::{self, ConfigFlags, Shown};
use crate::control::client::Client;
use crate::control::protocol::Op;
use crate::exit_status as exit;
use crate::rules::files;

/// Show the settings in effect, each with its source
///
/// A flag overrides the environment (MONITOR_ variables override Ray's), the environment overrides the file, and the
/// file overrides the default. Every value is checked, even one that is overridden.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 all valid; 1 output failed, or the agent refused; 2 a setting or the file is wrong; each \
                  error is a line on stderr; 125 no agent answers (with --running)."
)]
pub(super) struct ConfigArgs {
    /// Print a JSON array of {key, value, source, note}; null where the table shows off, unset, none or auto.
    #[arg(long)]
    json: bool,
    /// Show the settings of the running agent, as it read them from its flags, environment and file. Of the flags here,
    /// only --socket has an effect: it says where the agent listens
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    flags: ConfigFlags,
    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a file by itself, without flags and environment
    ///
    /// Prints all errors, as FILE:LINE: KEY: what is wrong. Also counts the rules that an agent would have with this
    /// file: those in it, in rules.d beside it, and in its presets.
    #[command(after_help = "Exit status: 0 the file is valid; 2 it is not.")]
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
        None if args.running => return running(&args.flags, args.json),
        None => show(&args.flags, args.json),
    };
    match outcome {
        Ok(text) => ask::print(&text),
        Err(errors) => {
            ask::list(&errors);
            exit::USAGE
        }
    }
}

fn running(flags: &ConfigFlags, json: bool) -> u8 {
    if let Some(flag) = flags.given_but_for("socket") {
        ask::complain(&format_args!("--{flag} does not apply to a running agent: leave it out"));
        return exit::USAGE;
    }
    let socket = match ask::socket_of(flags) {
        Ok(socket) => socket,
        Err(errors) => {
            ask::list(&errors);
            return exit::USAGE;
        }
    };
    let answer = ask::block_on(async {
        let mut agent = if flags.is_given("socket") {
            Client::connect_told(&socket).await?
        } else {
            Client::connect(&socket).await?
        };
        agent.ask::<Vec<Shown>>(Op::Config).await
    });
    match answer {
        Ok(Ok(settings)) => ask::print(&render(&settings, json)),
        Ok(Err(error)) => ask::refused(&error),
        Err(error) => {
            ask::complain(&error);
            exit::FAILED
        }
    }
}

fn show(flags: &ConfigFlags, json: bool) -> Result<String, String> {
    let resolved = config::load(flags).map_err(|errors| errors.to_string())?;
    ask::warn(&resolved.warnings);
    Ok(render(&resolved.shown(), json))
}

fn render(settings: &[Shown], json: bool) -> String {
    if json { as_json(settings) } else { as_table(settings) }
}

fn check(file: &Path) -> Result<String, String> {
    let file = config::read_file(file).map_err(|error| error.to_string())?;
    let (count, alone) = config::check(&file).map_err(|errors| errors.to_string())?;
    let settings =
        if count == 1 { "1 setting, valid".to_owned() } else { format!("{count} settings, all valid") };
    for (setting, why) in callbacks::unusable(&alone) {
        ask::complain(&format_args!("{}: warning: {setting}: {why}", file.path.display()));
    }
    let mut text = format!("{}: {settings}\n", file.path.display());
    match alone.rules_from(Some(&file)).load() {
        Ok(rules) => {
            if let Some(rules) = files::sentence(&rules) {
                text += &format!("{}: {rules}\n", file.path.display());
            }
        }
        // Of other files, or of who may change this one: by itself it is valid.
        Err(faults) => {
            for fault in faults.0 {
                ask::complain(&format_args!("{}: warning: {fault}", file.path.display()));
            }
        }
    }
    Ok(text)
}

fn as_json(settings: &[Shown]) -> String {
    let rows: Vec<_> = settings
        .iter()
        .map(|row| {
            json!({
                "key": row.key,
                "value": row.value,
                "source": row.source,
                "note": row.note,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}

fn as_table(settings: &[Shown]) -> String {
    // One long path must not push the sources of all others out of sight.
    const WIDEST: usize = 32;
    let width = |of: fn(&Shown) -> &str| {
        settings.iter().map(|row| of(row).chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0)
    };
    let (keys, values) = (width(|row| &row.key), width(|row| &row.text));
    let mut table = format!("{:keys$}  {:values$}  source\n", "key", "value");
    for row in settings {
        let note = row.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let line = format!("{:keys$}  {:values$}  {}{note}", row.key, row.text, row.source);
        table += &one_line(&line);
        table.push('\n');
    }
    table
}

/// A path may hold anything; control characters in it neither break the table nor reach the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
