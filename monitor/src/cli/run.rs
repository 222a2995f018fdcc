//! `monitor run`: what the user typed, and what it means. The work is [`crate::runner`]'s.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};

use super::{Cli, exit};
use crate::config::{self, ConfigErrors, ConfigFlags, Resolved, SYSTEM_SOCKET};
use crate::control::protocol::NAME_MOST;
use crate::printable::printable;
use crate::retry::Waits;
use crate::runner::{self, IfNoAgent, Plan, Socket};
use crate::units::Bytes;
use crate::worker::{Kind, LastTask, Times};

/// How often a task is retried by default, as in Ray.
const DEFAULT_MAX_RETRIES: Times = Times::AtMost(3);
/// How often an actor is restarted by default, as in Ray.
const DEFAULT_MAX_RESTARTS: Times = Times::AtMost(0);

/// Run a command as a worker, and retry it after it was killed for memory
///
/// The command is registered with the agent before it starts to run. It gets the terminal, the standard streams and the
/// signals as if you had started it directly. MONITOR_SOCKET and MONITOR_WORKER_ID are in its environment, so that a
/// nested `monitor run` finds the same agent, with this worker as its owner. If the runner is killed, the command keeps
/// running, registered but not retried; inside a worker it ends, unless --detached is given.
///
/// After a kill for memory, the last running worker of an owner is not retried, whatever --max-retries says: another
/// attempt would run out of memory again; see --last-task. The owner is the process that started this
/// `monitor run`, for example one shell, make or xargs; --owner names another.
///
/// A death by HUP, INT, PIPE or TERM is not a crash, and is not retried.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: the command's (128+N if it died by signal N; 126 it cannot be executed, 127 it was not \
found); 137 (--oom-exit-code) it was killed for memory and is not retried; 125 no agent answers, or it refused the command; \
1 another failure of the runner; 2 wrong arguments."
)]
pub(super) struct Args {
    /// A task runs to its end; an actor is long-lived
    #[arg(long, value_enum, default_value_t = KindArg::Task)]
    kind: KindArg,
    /// The caller that it belongs to: workers with the same owner form a group [default: the worker that this runs in,
    /// else the process that started this one, as `bash 4711`]
    #[arg(long, value_parser = not_empty)]
    owner: Option<String>,
    /// Inside a worker: keep running when that worker, or this runner, is killed
    #[arg(long)]
    detached: bool,
    /// Retry a task at most N times after crashes (default 3, deaths by signal only). If you set it, non-zero exits
    /// count as crashes too. -1: unlimited; 0: no retry after a kill for memory either
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_retries: Option<Times>,
    /// Restart an actor at most N times after crashes and kills for memory (default 0, deaths by signal only). If you
    /// set it, non-zero exits count as crashes too. -1: unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_restarts: Option<Times>,
    /// A name, for people and for what the agent learns (`monitor learned`)
    #[arg(long, value_parser = not_empty)]
    name: Option<String>,
    /// Workers with a lower priority are killed first; only root may raise it above 0
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 0)]
    priority: i32,
    /// What to do after a kill if it was the last running worker of its owner: fail, or wait until there is more room than
    /// when it was killed. It fails in any case if it was the only worker of the memory limit
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = LastTaskArg::Fail)]
    last_task: LastTaskArg,
    /// The memory that one attempt needs, such as 512MiB (512MB and 512M are decimal), or a number of bytes; see
    /// --admission and the policy by_memory
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<Bytes>,
    /// Retry a task at most N times after kills for memory; -1: unlimited (a setting: see `monitor config`)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_retries: Option<OsString>,
    /// Wait this long before the first such retry, in milliseconds; each further wait is twice as long, up to 60 s; 0:
    /// no wait (a setting: see `monitor config`)
    #[arg(long, value_name = "MS", allow_hyphen_values = true)]
    oom_retry_base_ms: Option<OsString>,
    /// Wait this long before the first retry after a crash, in milliseconds; each further wait is twice as long, up to
    /// 60 s; it starts over once an attempt has run for a minute; 0: no wait (a setting: see `monitor config`)
    #[arg(long, value_name = "MS", allow_hyphen_values = true)]
    crash_retry_base_ms: Option<OsString>,
    /// Which starts wait for room. off: none. retries: retries after a kill for memory, for a minute at most. all:
    /// first starts too, if their need was declared (--memory) or learned (--name) [default: the agent's setting]
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    admission: Option<OsString>,
    /// The exit status if it was killed for memory and is not retried
    #[arg(long, value_name = "N", default_value_t = exit::OUT_OF_MEMORY, value_parser = clap::value_parser!(u8).range(1..))]
    oom_exit_code: u8,
    /// What to do if no agent listens: start one in this process, run the command unguarded, or fail [default: start; fail
    /// if a socket is named]
    #[arg(long, value_enum, value_name = "WHAT")]
    if_no_agent: Option<IfNoAgentArg>,
    /// Append events to FILE, one JSON object per line. FILE may be a named pipe; events that nothing reads in time are
    /// dropped
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LastTaskArg {
    Fail,
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IfNoAgentArg {
    Start,
    Run,
    Fail,
}

/// Where a runner is started: what it knows without being told.
#[derive(Debug, Clone, Default)]
struct Place {
    /// The worker that it is in.
    worker: Option<String>,
    /// The process that started it, as `bash 4711`.
    parent: Option<String>,
}

impl Place {
    fn here() -> Self {
        let worker = std::env::var_os(runner::stub::WORKER_VARIABLE).filter(|worker| !worker.is_empty());
        Self { worker: worker.map(|worker| worker.to_string_lossy().into_owned()), parent: parent() }
    }
}

/// `None`: it is outside of this pid namespace.
fn parent() -> Option<String> {
    let pid = rustix::process::getppid()?.as_raw_nonzero();
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} {pid}", printable(String::from_utf8_lossy(name.trim_ascii_end()).as_ref())))
}

fn size(text: &str) -> Result<Bytes, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.0 > 0 => Ok(Bytes(size.0)),
        Ok(_) => Err("it must be above 0".into()),
        Err(_) => Err("it is not a size, such as 512MiB or a number of bytes".into()),
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it must not be empty".into()),
        1..=NAME_MOST => Ok(text.to_owned()),
        length => Err(format!("it must have at most {NAME_MOST} bytes; it has {length}")),
    }
}

pub(super) fn run(args: Args) -> u8 {
    let plan = plan(args, Place::here(), config::load)
        .unwrap_or_else(|message| Cli::command().error(ErrorKind::ValueValidation, message).exit());
    match runner::run(plan) {
        Ok(exit) => {
            runner::end_as(exit);
            exit.status()
        }
        Err(error) => {
            super::ask::complain(&error);
            error.status()
        }
    }
}

/// What the arguments mean. Settings have their own precedence (docs/behavior.md#configuration), which `load` knows.
fn plan(
    args: Args,
    place: Place,
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
        ("crash_retry_base_ms", args.crash_retry_base_ms),
        ("admission", args.admission),
        ("socket", args.socket),
    ];
    let told = given.iter().any(|(key, value)| *key == "socket" && value.is_some());
    let flags = given
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .fold(ConfigFlags::default(), |flags, (key, value)| flags.and(key, value));
    let resolved = load(&flags).map_err(|errors| errors.to_string())?;
    super::ask::warn(resolved.warnings.iter().filter(|warning| warning.is_misspelt()));
    let named = resolved.is_given("socket");
    let admission = resolved.is_given("admission").then_some(resolved.config.admission);
    let config = resolved.config;
    let nested = place.worker.is_some();
    let if_no_agent = match args.if_no_agent {
        Some(IfNoAgentArg::Start) => IfNoAgent::Start,
        Some(IfNoAgentArg::Run) => IfNoAgent::Run,
        Some(IfNoAgentArg::Fail) => IfNoAgent::Fail,
        // Within a worker the outer runner named it: that is no wish of the user's.
        None if named && (told || !nested) => IfNoAgent::Fail,
        None => IfNoAgent::Start,
    };
    let path = if named { config.socket } else { SYSTEM_SOCKET.into() };
    Ok(Plan {
        command: args.command,
        kind,
        codes_are_crashes: explicit,
        owner: args.owner.or(place.worker).or(place.parent),
        ends_with_runner: nested && !args.detached,
        detached: args.detached,
        name: args.name,
        priority: args.priority,
        memory: args.memory,
        last_task: match args.last_task {
            LastTaskArg::Fail => LastTask::Fail,
            LastTaskArg::Wait => LastTask::Wait,
        },
        admission,
        oom_retries: config.oom_retries,
        waits: Waits { oom: config.oom_retry_base, crash: config.crash_retry_base },
        oom_exit_code: args.oom_exit_code,
        json_events: args.json_events,
        if_no_agent,
        socket: Socket { path, told, named },
    })
}

/// The exit status that clap gives a usage error is the one that docs/behavior.md#interfaces fixes.
const _: () = assert!(exit::USAGE == 2);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::admission::Admission;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn planned(line: &[&str], variables: &[(&str, &str)]) -> Result<Plan, String> {
        planned_in(Place::default(), line, variables)
    }

    fn planned_in(place: Place, line: &[&str], variables: &[(&str, &str)]) -> Result<Plan, String> {
        let args = Line::try_parse_from([&["run"], line].concat()).map_err(|error| error.to_string())?.args;
        plan(args, place, |flags| {
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
        assert_eq!((plan.oom_retries, plan.waits.oom), (Times::Unlimited, Duration::from_secs(1)));
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
        assert_eq!((plan.oom_retries, plan.waits.oom), (Times::AtMost(2), Duration::ZERO));
        let plan = planned(&["--oom-retries", "5", "true"], &ray).unwrap();
        assert_eq!(plan.oom_retries, Times::AtMost(5));
        let error = planned(&["true"], &[("RAY_task_oom_retries", "many")]).unwrap_err();
        assert!(error.contains("RAY_task_oom_retries") && error.contains("many"), "{error}");
    }

    #[test]
    fn the_owner_is_said_or_the_worker_around_or_the_parent() {
        let parent = Some("bash 4711".to_owned());
        let nested = Place { worker: Some("w5".to_owned()), parent: parent.clone() };
        let outside = Place { worker: None, parent };
        for (place, line, owner, ends) in [
            (&outside, &["true"][..], Some("bash 4711"), false),
            (&nested, &["true"], Some("w5"), true),
            (&nested, &["--owner", "a", "true"], Some("a"), true),
            (&nested, &["--detached", "true"], Some("w5"), false),
            (&Place::default(), &["true"], None, false),
        ] {
            let plan = planned_in(place.clone(), line, &[]).unwrap();
            assert_eq!((plan.owner.as_deref(), plan.ends_with_runner), (owner, ends), "{line:?}");
        }
    }

    #[test]
    fn who_names_a_socket_does_not_want_another_agent() {
        let nested = Place { worker: Some("w5".to_owned()), parent: None };
        let named = [("MONITOR_SOCKET", "/s")];
        for (place, line, variables, if_no_agent, told) in [
            (Place::default(), &["true"][..], &[][..], IfNoAgent::Start, false),
            (Place::default(), &["true"], &named, IfNoAgent::Fail, false),
            (Place::default(), &["--socket", "/s", "true"], &[], IfNoAgent::Fail, true),
            (nested, &["true"], &named, IfNoAgent::Start, false),
            (Place::default(), &["--if-no-agent=run", "true"], &named, IfNoAgent::Run, false),
            (Place::default(), &["--if-no-agent=start", "true"], &named, IfNoAgent::Start, false),
        ] {
            let plan = planned_in(place, line, variables).unwrap();
            assert_eq!((plan.if_no_agent, plan.socket.told), (if_no_agent, told), "{line:?} {variables:?}");
        }
    }

    #[test]
    fn an_exit_code_for_kills_is_a_failure() {
        assert_eq!(planned(&["true"], &[]).unwrap().oom_exit_code, 137);
        assert_eq!(planned(&["--oom-exit-code", "42", "true"], &[]).unwrap().oom_exit_code, 42);
        assert!(planned(&["--oom-exit-code", "0", "true"], &[]).is_err());
        assert!(planned(&["--oom-exit-code", "256", "true"], &[]).is_err());
    }

    #[test]
    fn whoever_does_not_say_which_starts_wait_leaves_it_to_the_agent() {
        assert_eq!(planned(&["true"], &[]).unwrap().admission, None);
        let by_flag = planned(&["--admission", "all", "true"], &[("MONITOR_ADMISSION", "off")]).unwrap();
        assert_eq!(by_flag.admission, Some(Admission::All));
        let by_variable = planned(&["true"], &[("MONITOR_ADMISSION", "off")]).unwrap();
        assert_eq!(by_variable.admission, Some(Admission::Off));
        assert!(planned(&["--admission", "some", "true"], &[]).unwrap_err().contains("off | retries | all"));
    }

    #[test]
    fn budgets_belong_to_their_kind() {
        assert!(planned(&["--max-restarts", "1", "true"], &[]).unwrap_err().contains("--kind actor"));
        assert!(planned(&["--kind", "actor", "--max-retries", "1", "true"], &[]).is_err());
        assert!(planned(&["--max-retries", "-2", "true"], &[]).is_err());
        assert!(planned(&["--owner", "", "true"], &[]).is_err());
        assert!(planned(&["--owner", &"x".repeat(257), "true"], &[]).is_err());
        assert!(planned(&[], &[]).is_err());
    }
}
