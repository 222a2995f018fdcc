//! `monitor run`: what the user typed, and what it means. The work is [`crate::runner`]'s.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};

use super::{Cli, exit};
use crate::config::{self, ConfigErrors, ConfigFlags, Resolved, SYSTEM_SOCKET};
use crate::runner::{self, Plan};
use crate::worker::{Kind, Times};

/// How often a task is retried by default, as in Ray.
const DEFAULT_MAX_RETRIES: Times = Times::AtMost(3);
/// How often an actor is restarted by default, as in Ray.
const DEFAULT_MAX_RESTARTS: Times = Times::AtMost(0);

/// Run a command as a worker, and retry it after it was killed for memory
///
/// The command is registered with the agent before it starts. It has the terminal, standard streams and signals as if
/// you had started it directly. MONITOR_SOCKET and MONITOR_WORKER_ID are in its environment: a `monitor run` inside it
/// uses the same agent, and has it as owner. If this runner is killed, the command goes on, registered but not retried.
///
/// A command that is the only worker of its owner is not retried after it was killed for memory, because it would run
/// out of memory again. Give related commands the same --owner: then all but the last are retried.
///
/// If no agent runs and no socket is named, this process starts one, if it may.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: the command's (128+N if it died by signal N; 126 it cannot be executed, 127 it was not \
found); 137 it was killed for memory and is not retried; 125 no agent answers, or the agent refused the command; 1 another \
failure of the runner; 2 usage."
)]
pub(super) struct Args {
    /// A task runs to its end, an actor is long-lived
    #[arg(long, value_enum, default_value_t = KindArg::Task)]
    kind: KindArg,
    /// The caller that it belongs to: workers with the same owner form a group
    #[arg(long, env = runner::stub::WORKER_VARIABLE, hide_env_values = true, value_parser = not_empty)]
    owner: Option<String>,
    /// Restarts of a task after a crash (default 3, signals only). If you set it, non-zero exits count too. -1:
    /// unlimited; 0: not retried after a kill for memory either
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_retries: Option<Times>,
    /// Restarts of an actor after a crash or a kill for memory (default 0, signals only). If you set it, non-zero exits
    /// count too. -1: unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_restarts: Option<Times>,
    /// A name for people
    #[arg(long, value_parser = not_empty)]
    name: Option<String>,
    /// Retries of a task after kills for memory, -1: unlimited (a setting: see `monitor config`)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_retries: Option<OsString>,
    /// The wait before the first such retry, in milliseconds; each further wait is twice as long, up to 60 s; 0: no
    /// wait (a setting: see `monitor config`)
    #[arg(long, value_name = "MS", allow_hyphen_values = true)]
    oom_retry_base_ms: Option<OsString>,
    /// Append events to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    json_events: Option<PathBuf>,
    /// The agent's socket (a setting: see `monitor config`) [default: /run/monitor/monitor.sock, then the user's own]
    #[arg(long, value_name = "PATH")]
    socket: Option<OsString>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArg {
    Task,
    Actor,
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it must not be empty".into()) } else { Ok(text.to_owned()) }
}

pub(super) fn run(args: Args) -> u8 {
    let plan = plan(args, config::load)
        .unwrap_or_else(|message| Cli::command().error(ErrorKind::ValueValidation, message).exit());
    match runner::run(plan) {
        Ok(status) => status,
        Err(error) => {
            super::ask::complain(&error);
            error.status()
        }
    }
}

/// What the arguments mean. Settings have their own precedence (docs/behavior.md#configuration), which `load` knows.
fn plan(
    args: Args,
    load: impl FnOnce(&ConfigFlags) -> Result<Resolved, ConfigErrors>,
) -> Result<Plan, String> {
    let (kind, explicit) = match args.kind {
        KindArg::Task if args.max_restarts.is_some() => {
            return Err("--max-restarts is for actors: give --kind actor, or --max-retries".into());
        }
        KindArg::Actor if args.max_retries.is_some() => {
            return Err("--max-retries is for tasks: give --kind task, or --max-restarts".into());
        }
        KindArg::Task => {
            let max_retries = args.max_retries.unwrap_or(DEFAULT_MAX_RETRIES);
            (Kind::Task { max_retries }, args.max_retries.is_some())
        }
        KindArg::Actor => {
            let max_restarts = args.max_restarts.unwrap_or(DEFAULT_MAX_RESTARTS);
            (Kind::Actor { max_restarts }, args.max_restarts.is_some())
        }
    };
    let given = [
        ("oom_retries", args.oom_retries),
        ("oom_retry_base_ms", args.oom_retry_base_ms),
        ("socket", args.socket),
    ];
    let flags = given
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .fold(ConfigFlags::default(), |flags, (key, value)| flags.and(key, value));
    let resolved = load(&flags).map_err(|errors| errors.to_string())?;
    let socket_is_named = resolved.is_given("socket");
    let config = resolved.config;
    Ok(Plan {
        command: args.command,
        kind,
        codes_are_crashes: explicit,
        owner: args.owner,
        name: args.name,
        oom_retries: config.oom_retries,
        oom_retry_base: config.oom_retry_base,
        json_events: args.json_events,
        may_start_agent: !socket_is_named,
        socket: if socket_is_named { config.socket } else { SYSTEM_SOCKET.into() },
    })
}

/// The exit status that clap gives a usage error is the one that docs/behavior.md#interfaces fixes.
const _: () = assert!(exit::USAGE == 2);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn planned(line: &[&str], variables: &[(&str, &str)]) -> Result<Plan, String> {
        let args = Line::try_parse_from([&["run"], line].concat()).map_err(|error| error.to_string())?.args;
        plan(args, |flags| {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            config::resolve(flags, &variable, None, 0)
        })
    }

    #[test]
    fn defaults_are_rays() {
        let plan = planned(&["true"], &[]).unwrap();
        assert_eq!(plan.kind, Kind::Task { max_retries: Times::AtMost(3) });
        assert!(!plan.codes_are_crashes);
        assert_eq!((plan.oom_retries, plan.oom_retry_base), (Times::Unlimited, Duration::from_secs(1)));
        let actor = planned(&["--kind", "actor", "--", "true"], &[]).unwrap();
        assert_eq!(actor.kind, Kind::Actor { max_restarts: Times::AtMost(0) });
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let plan = planned(&["--max-retries", "-1", "sh", "-c", "--kind", "--", "x"], &[]).unwrap();
        assert_eq!(plan.command, ["sh", "-c", "--kind", "--", "x"]);
        assert_eq!(plan.kind, Kind::Task { max_retries: Times::Unlimited });
        assert!(plan.codes_are_crashes);
    }

    #[test]
    fn rays_variables_count_after_ours() {
        let ray = [("RAY_task_oom_retries", "2"), ("RAY_task_oom_retry_delay_base_ms", "0")];
        let plan = planned(&["true"], &ray).unwrap();
        assert_eq!((plan.oom_retries, plan.oom_retry_base), (Times::AtMost(2), Duration::ZERO));
        let plan = planned(&["--oom-retries", "5", "true"], &ray).unwrap();
        assert_eq!(plan.oom_retries, Times::AtMost(5));
        let error = planned(&["true"], &[("RAY_task_oom_retries", "many")]).unwrap_err();
        assert!(error.contains("RAY_task_oom_retries") && error.contains("many"), "{error}");
    }

    #[test]
    fn budgets_belong_to_their_kind() {
        assert!(planned(&["--max-restarts", "1", "true"], &[]).unwrap_err().contains("--kind actor"));
        assert!(planned(&["--kind", "actor", "--max-retries", "1", "true"], &[]).is_err());
        assert!(planned(&["--max-retries", "-2", "true"], &[]).is_err());
        assert!(planned(&["--owner", "", "true"], &[]).is_err());
        assert!(planned(&[], &[]).is_err());
    }
}
