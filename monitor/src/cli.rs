//! The command line: one file per subcommand below `cli/`, each with its clap arguments and a `run` that
//! returns the exit status. stdout is data, stderr is diagnostics.

mod agent;
mod ask;
mod callbacks;
mod completions;
mod config;
mod doctor;
pub mod domains;
mod exec;
mod explain;
mod kills;
mod learned;
mod man;
mod metrics;
mod page;
mod past;
mod ray;
mod ray_helper;
mod releaser;
mod reload;
mod replay;
pub mod roots;
mod rules;
mod run;
mod self_test;
mod status;
mod table;
mod top;
mod watch;
mod why;
mod witness;
mod workers;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit_status as exit;

/// Keep this machine from running out of memory: kill one worker, chosen by policy, in time.
#[derive(Debug, Parser)]
#[command(name = "monitor", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::AgentArgs),
    #[command(name = crate::callbacks::SUBCOMMAND, hide = true)]
    Callbacks(callbacks::Args),
    Completions(completions::Args),
    Config(config::ConfigArgs),
    Doctor(doctor::Args),
    Domains(domains::Domains),
    #[command(name = crate::agent::survival::VICTIM, hide = true)]
    SelfTestVictim,
    #[command(name = crate::runner::held_start::STUB, hide = true)]
    Exec(exec::Args),
    Explain(explain::Args),
    Kills(kills::Args),
    Learned(learned::Args),
    Man(man::Args),
    Metrics(metrics::Args),
    Ray(ray::Args),
    #[command(name = crate::ray::HELPER, hide = true)]
    RayHelper(ray_helper::Args),
    #[command(name = crate::ray::ENTER, hide = true)]
    RayEnter(crate::ray::EnterArguments),
    Reload(reload::Args),
    Replay(replay::Args),
    Rules(rules::Args),
    Run(run::Args),
    Status(status::Args),
    Top(top::Args),
    Watch(watch::Args),
    Why(why::Args),
    #[command(name = crate::roles::RELEASER, hide = true)]
    Releaser(releaser::Args),
    #[command(name = crate::runner::witness::WITNESS, hide = true)]
    Witness(witness::Args),
    Workers(workers::Args),
}

/// Parses the command line, runs the subcommand and returns the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    let done = match cli.command {
        Command::Agent(args) => agent::run(&args),
        Command::Callbacks(args) => Ok(callbacks::run(&args)),
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Config(args) => Ok(config::run(&args)),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Domains(args) => args.run(),
        Command::SelfTestVictim => Ok(self_test::run()),
        Command::Exec(args) => Ok(exec::run(&args)),
        Command::Explain(args) => Ok(explain::run(&args)),
        Command::Kills(args) => Ok(kills::run(&args)),
        Command::Learned(args) => Ok(learned::run(&args)),
        Command::Man(args) => man::run(&args),
        Command::Metrics(args) => Ok(metrics::run(&args)),
        Command::Ray(args) => Ok(ray::run(&args)),
        Command::RayHelper(args) => Ok(ray_helper::help(&args)),
        Command::RayEnter(args) => Ok(ray_helper::enter(&args)),
        Command::Reload(args) => Ok(reload::run(&args)),
        Command::Replay(args) => Ok(replay::run(&args)),
        Command::Rules(args) => rules::run(&args),
        Command::Run(args) => Ok(run::run(args)),
        Command::Top(args) => Ok(top::run(args)),
        Command::Status(args) => Ok(status::run(&args)),
        Command::Watch(args) => Ok(watch::run(&args)),
        Command::Why(args) => Ok(why::run(&args)),
        Command::Releaser(args) => Ok(releaser::run(&args)),
        Command::Witness(args) => Ok(witness::run(&args)),
        Command::Workers(args) => Ok(workers::run(&args)),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        // The reader has read enough: `monitor ... | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(exit::OK),
        Err(error) => {
            ask::complain(&format_args!("{error:#}"));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Help, the version, or what is wrong with the command line.
fn tell(told: &clap::Error) -> ExitCode {
    let usage = u8::try_from(told.exit_code()).unwrap_or(exit::USAGE);
    match told.print().and_then(|()| std::io::stdout().flush()) {
        Ok(()) => ExitCode::from(usage),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(usage),
        Err(error) => {
            ask::complain(&format_args!("cannot write: {error}"));
            ExitCode::from(exit::FAILED)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |io: &std::io::Error| io.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is))
}
