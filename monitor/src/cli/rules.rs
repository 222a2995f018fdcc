//! `monitor rules`: what every rule matches now, what is protected, and the largest processes that no rule has. Needs no
//! agent, kills nobody, changes nothing. Its subcommands check files, print presets, and suggest a configuration.
//!
//! Exit status: 0 done; 1 output failed, or processes cannot be listed (`check`: a fault was found); 2 a bad setting or
//! faulty rules.

mod report;
mod show;
mod suggest;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Subcommand;

use super::exit;
use crate::config::{self, ConfigFlags};
use crate::memory::Roots;
use crate::rules::files::{self, Faults};
use crate::rules::{RuleSpec, Rules, presets};

/// Show which running processes the rules make workers of, and which they protect
///
/// Reads the rules that an agent would: rules.d beside the configuration file, the file itself, and presets. Needs no
/// agent and no root for one's own processes. Kills nobody and changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 done; 1 the processes cannot be listed; 2 a bad setting or faulty rules."
)]
pub(super) struct Args {
    #[command(flatten)]
    look: LookArgs,
    #[command(subcommand)]
    command: Option<RulesCommand>,
}

/// Where rules are and what they are held against.
#[derive(Debug, clap::Args)]
pub(super) struct LookArgs {
    /// TOML file with settings [default: /etc/monitor/monitor.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory of rules [default: rules.d beside the configuration file]
    #[arg(long, value_name = "DIR")]
    rules: Option<OsString>,
    /// Built-in rules; may be repeated
    #[arg(long = "preset", value_name = "NAME")]
    presets: Vec<OsString>,
    /// Where procfs is mounted (in a container, the host's)
    #[arg(long, value_name = "DIR")]
    procfs: Option<OsString>,
    /// Where cgroups are mounted: a v2 mount, or the directory with v1's `memory`
    #[arg(long, value_name = "DIR")]
    cgroupfs: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Check rules files: each alone, all together, and with the built-in protection
    ///
    /// Prints each error as FILE:LINE: KEY: what is wrong, and what is allowed.
    #[command(after_help = "Exit status: 0 no errors; 1 errors.")]
    Check {
        /// Files with [[rule]] tables
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the presets
    Presets {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a preset as TOML
    Preset {
        /// The preset's name
        name: String,
    },
    /// Show which workers the rules killed, or would have killed in mode enforce
    ///
    /// Reads the agent's journal; needs no agent. After some days in mode observe, it shows how often a threshold was
    /// exceeded, and which workers each rule would have killed.
    #[command(after_help = "Exit status: 0 done; 1 the journal cannot be read; 2 a bad setting.")]
    Report(report::Args),
    /// Print a configuration, in mode observe, for the programs that run here now
    Suggest {
        /// Where procfs is mounted (in a container, the host's)
        #[arg(long, value_name = "DIR", default_value = "/proc")]
        procfs: PathBuf,
        /// Where cgroups are mounted
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup")]
        cgroupfs: PathBuf,
    },
}

/// Runs the subcommand; its exit status.
///
/// # Errors
/// Output fails, or the processes cannot be listed.
pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        None => look(&args.look),
        Some(RulesCommand::Check { files }) => check(files),
        Some(RulesCommand::Presets { json }) => print(&list(*json)?),
        Some(RulesCommand::Preset { name }) => match presets::by_name(name) {
            Some(preset) => print(preset.toml),
            None => {
                eprintln!("monitor rules: {}", files::no_preset(name));
                Ok(exit::USAGE)
            }
        },
        Some(RulesCommand::Report(args)) => report::run(args),
        Some(RulesCommand::Suggest { procfs, cgroupfs }) => {
            print(&suggest::suggest(&Roots { procfs: procfs.clone(), cgroupfs: cgroupfs.clone() })?)
        }
    }
}

fn look(args: &LookArgs) -> anyhow::Result<u8> {
    let mut flags = ConfigFlags::default();
    flags.file.clone_from(&args.config);
    for (key, value) in [("rules", &args.rules), ("procfs", &args.procfs), ("cgroupfs", &args.cgroupfs)] {
        if let Some(value) = value {
            flags = flags.and(key, value.clone());
        }
    }
    let resolved = match config::load(&flags.and_all("presets", args.presets.clone())) {
        Ok(resolved) => resolved,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(exit::USAGE);
        }
    };
    let rules = match resolved.rules_from().load() {
        Ok(rules) => rules,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::USAGE);
        }
    };
    let roots = Roots { procfs: resolved.config.procfs.clone(), cgroupfs: resolved.config.cgroupfs.clone() };
    let answer = show::answer(&rules, &roots)?;
    print(&if args.json { format!("{answer:#}\n") } else { show::human(&answer) })
}

fn check(paths: &[PathBuf]) -> anyhow::Result<u8> {
    let mut specs: Vec<RuleSpec> = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let (read, wrong) = files::read_with_faults(path);
        specs.extend(read);
        faults.extend(wrong);
    }
    let rules = specs.len();
    // Names are taken by the built-in protection too.
    let system = presets::by_name(presets::SYSTEM).map(presets::Preset::rules);
    specs.extend(system.and_then(Result::ok).unwrap_or_default());
    if let Err(wrong) = Rules::compile(&specs, None) {
        faults.extend(Faults::from(wrong).0);
    }
    if faults.is_empty() {
        let plural = if rules == 1 { "" } else { "s" };
        return print(&format!("{rules} rule{plural}, no fault\n"));
    }
    print(&format!("{}\n", Faults(faults)))?;
    Ok(exit::FAILED)
}

fn list(json: bool) -> anyhow::Result<String> {
    if json {
        let rows: Vec<_> = presets::PRESETS
            .iter()
            .map(|preset| serde_json::json!({"name": preset.name, "about": preset.about}))
            .collect();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    let width = presets::PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    let line = |preset: &presets::Preset| format!("{:width$}  {}\n", preset.name, preset.about);
    Ok(presets::PRESETS.iter().map(line).collect())
}

/// `print!` panics when the reader is gone, as in `monitor rules | head -1`.
fn print(text: &str) -> anyhow::Result<u8> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(exit::OK),
    }
}
