//! The agent's loop: records, ends of processes, calls and deadlines, one after the other on one thread. The caller
//! opens the socket and owns the stop signal.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::agent::api::Api;
use crate::agent::brake::Brake;
use crate::agent::callbacks::Callbacks;
use crate::agent::domains::Domains;
use crate::agent::event_loop::alarm::Alarm;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::descriptors::Shares;
use crate::agent::event_loop::readiness;
use crate::agent::hooks::{Hooks, namespace};
use crate::agent::http;
use crate::agent::killing::Killing;
use crate::agent::killing::previous_agent::{PreviousAgent, Role};
use crate::agent::learned::LearnedFile;
use crate::agent::oom_counters::OomCounters;
use crate::agent::raylets::Raylets;
use crate::agent::reload;
use crate::agent::reports::past::Past;
use crate::agent::reports::{Reports, last_numbers};
use crate::agent::rules::RuleBook;
use crate::agent::samples::Samples;
use crate::agent::shell::{Components, Inbox, Shell};
use crate::agent::starts::Starts;
use crate::agent::survival::{self, Upkeep};
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::Workers;
use crate::agent::workers::measure::{Dying, Measuring};
use crate::agent::workers::numbering::Numbers;
use crate::agent::workers::registry::Registry;
use crate::config::values::GearChoice;
use crate::config::{Config, ConfigFlags, Resolved};
use crate::control::listener::{Listener, ListenerHandle};
use crate::control::request::{Lanes, Request};
use crate::control::server::{self, Limits};
use crate::engine::{Engine, Event, Gears, KillId, Settings};
use crate::journal::{Given, Last};
use crate::kernel::hook::Hook;
use crate::kernel::links::{Links, Probes};
use crate::kernel::machine;
use crate::kernel::programs::{KernelLog, Programs};
use crate::memory::{CgroupPath, ReadError, Roots};
use crate::recording::Recorder;
use crate::rules::Rules;
use crate::threshold::ThresholdError;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A cgroup that was named can't be guarded.
    #[error("cannot guard cgroup {path}: {error}")]
    Cgroup {
        /// As given.
        path: String,
        /// Why.
        error: String,
    },
    /// A setting that no node like this one can have.
    #[error("{0}: set it to less, or leave it out")]
    Threshold(ThresholdError),
    /// The node's files can't be read.
    #[error("cannot guard the node: {0}")]
    Node(ReadError),
    /// The runtime refuses.
    #[error("cannot wait for kernel records or a time: {0}")]
    Poller(std::io::Error),
}

/// The shortest time between two ticks, should one not move the deadline that it is for.
const LEAST_WAIT: Duration = Duration::from_micros(100);

/// Calls that wait for the loop.
const WAITING_CALLS: usize = 1024;

/// As what an agent begins.
pub struct Begin {
    /// The daemon, or inside a `monitor run`; and which agent it follows.
    pub role: Role,
    /// What makes workers of what runs.
    pub rules: Rules,
    /// Is told all that the engine is told.
    pub recorder: Option<Recorder>,
}

/// Runs the agent until `shutdown`; the flags are those that its settings came from, to read them again. `ready` is
/// called when everything is guarded and the socket is served.
///
/// # Errors
/// If what was asked for cannot be guarded. Missing kernel hooks are no error: they show in `status`.
pub async fn serve(
    (resolved, flags): (Resolved, ConfigFlags),
    listener: Listener,
    shutdown: CancellationToken,
    begin: Begin,
    ready: impl FnOnce(),
) -> Result<(), AgentError> {
    let (root, mut roots_calls) = mpsc::channel(WAITING_CALLS);
    let (others, mut calls) = mpsc::channel(WAITING_CALLS);
    let (mut shell, Inbox { mut ends, mut later }) = start((&resolved, flags), begin, listener.handle())?;
    let config = resolved.config;
    let ring = shell.parts().hooks.records_fd().transpose().map_err(AgentError::Poller)?;
    let ring = ring.map(readiness::readable);
    let ring = ring.transpose().map_err(AgentError::Poller)?;
    http::start(&config, others.clone(), shutdown.clone(), shell.parts().api.http.clone());
    let server = tokio::spawn(server::serve(
        listener,
        Lanes { root, others },
        Limits::of(Shares::now().connections),
        shutdown.clone(),
    ));
    let mut alarm = Alarm::new().map_err(AgentError::Poller)?;
    // Inside a `monitor run` it is the command's signal.
    let in_process = shell.parts().previous_agent.is_in_process();
    let hangups = (!in_process).then(|| signal(SignalKind::hangup())).transpose();
    let mut hangups = hangups.map_err(AgentError::Poller)?;
    ready();
    let mut ticked = clock::now();
    // Whether records are left that the last turn did not get to: no new readiness will tell of them.
    let mut more = false;
    loop {
        shell.turn();
        // However fast records come, what is due is done: they are preferred below.
        let now = clock::now();
        if now >= shell.next_tick(ticked) {
            shell.tick();
            ticked = now;
        }
        if shell.next_look(now).is_some_and(|due| due <= now) {
            more |= shell.look(now);
        }
        let due = shell.next_tick(ticked).max(ticked.after(LEAST_WAIT));
        let due = shell.next_look(now).map_or(due, |look| due.min(look.max(now.after(LEAST_WAIT))));
        alarm.set(due).map_err(AgentError::Poller)?;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            readable = async { match &ring {
                Some(_) if more => None,
                Some(ring) => ring.readable().await.ok(),
                None => pending().await,
            } } => {
                if let Some(mut guard) = readable {
                    guard.clear_ready();
                }
                more = shell.drain();
                if more {
                    // What else waits for this thread has its turn in between.
                    yield_now().await;
                    if let Ok(end) = ends.try_recv() {
                        shell.ended(end);
                    }
                    if let Ok(late) = later.try_recv() {
                        shell.later(late);
                    }
                }
            }
            Some(end) = ends.recv() => shell.ended(end),
            Some(late) = later.recv() => shell.later(late),
            () = alarm.rings() => {}
            () = async { match &mut hangups {
                Some(hangups) => drop(hangups.recv().await),
                None => pending().await,
            } } => shell.reload(None),
            Some(request) = roots_calls.recv() => answer(&mut shell, request, &shutdown),
            Some(request) = calls.recv() => answer(&mut shell, request, &shutdown),
        }
    }
    shell.end();
    // It ends by the same signal.
    let _ = server.await;
    Ok(())
}

/// What a connection asks for, or that it is closed.
fn answer(shell: &mut Shell, request: Request, shutdown: &CancellationToken) {
    match request {
        Request::Call { peer, op, reply } => {
            shell.call(peer, op, reply);
            if shell.parts().previous_agent.gives_way() {
                shutdown.cancel();
            }
        }
        Request::Closed { connection } => shell.hang_up(connection),
    }
}

fn load(config: &Config) -> Result<Programs, Box<Probes>> {
    use crate::config::values::{BrakeMode, ProbeChoice};
    if let Some(why) = namespace::foreign(&config.procfs) {
        return Err(Programs::off(why));
    }
    let kernel_log = if config.kernel_log { KernelLog::On } else { KernelLog::Off };
    let usage: &[Hook] = match config.probe {
        ProbeChoice::Poll => return Err(Programs::off("switched off: probe = poll")),
        // The brake pauses at the line, so the line must be exact.
        ProbeChoice::Auto if config.brake_in_force() == BrakeMode::On => &[Hook::Memcg, Hook::RssStat],
        ProbeChoice::Auto => &[Hook::RssStat, Hook::Memcg],
        ProbeChoice::Memcg => &[Hook::Memcg],
        ProbeChoice::RssStat => &[Hook::RssStat],
        // Asked for because it is cheap: refused, the next cheapest.
        ProbeChoice::Charge => &[Hook::Charge, Hook::RssStat, Hook::Memcg],
    };
    let mut programs = Programs::load(kernel_log)?;
    programs.links.choose(usage);
    Ok(programs)
}

/// Builds the shell with all its components, and tells the engine what there is at the start.
fn start(
    (resolved, flags): (&Resolved, ConfigFlags),
    begin: Begin,
    listener: Arc<ListenerHandle>,
) -> Result<(Shell, Inbox), AgentError> {
    let role = begin.role;
    let config = &resolved.config;
    let mut programs = load(config);
    if let (true, Ok(programs)) = (config.kernel_log, &mut programs) {
        forward_kernel_log(&mut programs.links);
    }
    let follows = survival::follows_a_killed_agent();
    let mut last = config.journal.as_deref().and_then(last_numbers);
    if let Some(number) = role.last_number() {
        let last = last.get_or_insert_with(|| Last { worker: number, ..Last::default() });
        last.worker = last.worker.max(number);
    }
    let last_kill = last.as_ref().and_then(|last| last.kill);
    let settings = settings(config, &programs);
    let numbers = Numbers::after(last, follows);
    let threshold = settings.threshold();
    let built = build((resolved, flags, last_kill), begin, &settings, programs, numbers, listener);
    let (mut shell, inbox) = built;
    shell.happen(Event::Settings(settings));
    if let Some(last_kill) = last_kill {
        shell.happen(Event::Resumed { last_kill });
    }
    if let Some(known) = shell.step(|parts, _| parts.learned.known()) {
        shell.happen(known);
    }
    if follows && !role.follows_one_that_lives() {
        shell.step(|parts, turn| parts.previous_agent.was_here(turn, parts.workers.procfs()));
    }
    if config.node {
        let added = shell.step(|parts, turn| parts.domains.guard_node(turn));
        added.map_err(AgentError::Node)?;
        let total = shell.step(|parts, _| parts.domains.node_total());
        total.map_or(Ok(()), |total| threshold.check_node(total)).map_err(AgentError::Threshold)?;
    }
    for cgroup in &config.cgroups {
        let name = |error: &dyn std::fmt::Display| AgentError::Cgroup {
            path: cgroup.display().to_string(),
            error: error.to_string(),
        };
        let path = CgroupPath::new(cgroup.as_os_str()).map_err(|error| name(&error))?;
        shell.step(|parts, turn| parts.domains.guard_named(turn, &path)).map_err(|error| name(&error))?;
    }
    shell.prepare_brake(config.brake_in_force(), config.brake_max);
    if !matches!(role, Role::InProcess { .. }) {
        shell.follow_rules();
        shell.step(|parts, _| parts.rules.begin());
    }
    shell.parts().hooks.warn();
    shell.happen(Event::Tick);
    Ok((shell, inbox))
}

/// The shell, complete; the engine knows of nothing yet.
pub(super) fn build(
    (resolved, flags, last_kill): (&Resolved, ConfigFlags, Option<KillId>),
    begin: Begin,
    settings: &Settings,
    programs: Result<Programs, Box<Probes>>,
    numbers: Numbers,
    listener: Arc<ListenerHandle>,
) -> (Shell, Inbox) {
    let Begin { role, rules, recorder } = begin;
    let config = &resolved.config;
    let (ended, ends) = mpsc::unbounded_channel();
    let (reports, later) = Reports::start(config, resolved.file());
    reports.note_numbers(Given::UpTo(numbers.last()));
    let (started, shares) = (clock::now(), Shares::now());
    let roots = Roots { procfs: config.procfs.clone(), cgroupfs: config.cgroupfs.clone() };
    let (links, cells, map, events) = match programs {
        Ok(Programs { links, cells, workers, events }) => {
            (Ok(links), Some(cells), Some(workers), Some(events))
        }
        Err(rows) => (Err(rows), None, None, None),
    };
    let dying = Dying::default();
    let learned = LearnedFile::open(config.journal.as_deref(), started);
    let watchdog = Watchdog::start(config.watchdog, settings, &roots);
    let registry = Registry::new(shares.processes);
    let rules = RuleBook::new(rules, roots.clone(), reports.to_loop());
    let parts = Components {
        rules,
        starts: Starts::default(),
        learned,
        domains: Domains::new(roots.clone(), config.count_swap, config.node, &shares, cells),
        workers: Workers::new(registry, map, numbers, ended.clone(), roots.procfs.clone(), started),
        measuring: Measuring::new(dying.clone(), reports.to_loop()),
        past: Past::begin(config.journal.as_deref(), last_kill, reports.to_loop()),
        hooks: Hooks::new(links, events, gears(config, true)),
        killing: Killing::new(&roots, dying, ended),
        previous_agent: PreviousAgent::new(role, started),
        brake: Brake::Off,
        raylets: Raylets::start(config, reports.to_loop()),
        watchdog,
        samples: Samples::new(),
        reports,
        api: Api::new(listener, (resolved.shown(), flags), started),
        upkeep: Upkeep::default(),
        oom_counters: OomCounters::default(),
        callbacks: Callbacks::start(config),
    };
    let shell = Shell::new(Engine::new(settings.clone()), recorder, started, parts);
    (shell, Inbox { ends, later })
}

/// Passes on what the programs log. For debugging: failing, it costs nothing but the log.
fn forward_kernel_log(links: &mut Links) {
    use std::os::fd::AsFd as _;
    let prepared = links.take_logger().map_err(|error| error.to_string()).and_then(|logger| {
        let fd = logger.as_fd().try_clone_to_owned().and_then(|fd| readiness::readable(fd.into()));
        fd.map(|fd| (logger, fd)).map_err(|error| error.to_string())
    });
    match prepared {
        Ok((mut logger, fd)) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = fd.readable().await {
                    guard.clear_ready();
                    logger.flush();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "cannot read the log of the kernel programs"),
    }
}

fn gears(config: &Config, hook: bool) -> Gears {
    match config.gear {
        _ if !hook => Gears::None,
        GearChoice::Auto => Gears::Auto,
        GearChoice::Near => Gears::Near,
    }
}

fn settings(config: &Config, programs: &Result<Programs, Box<Probes>>) -> Settings {
    let usage = programs.as_ref().ok().and_then(|programs| programs.links.usage());
    let of_this_machine = Settings {
        // Once it is known to be possible.
        brake: false,
        brake_max_ms: reload::millis(config.brake_max),
        ray_timeout_ms: reload::millis(config.ray_timeout),
        gears: gears(config, usage.is_some()),
        cpus: machine::online_cpus(),
        ..Settings::default()
    };
    reload::settings(config, &of_this_machine)
}
