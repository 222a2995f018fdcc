//! The agent's loop: records, ends of processes, calls and deadlines, one after the other on one thread. The caller
//! opens the socket and owns the stop signal.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::api::exporter;
use crate::agent::api::visible::Shown;
use crate::agent::domains::Domains;
use crate::agent::domains::scope::Scope;
use crate::agent::event_loop::alarm::Alarm;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::descriptors::Shares;
use crate::agent::event_loop::readiness;
use crate::agent::hooks::namespace;
use crate::agent::reports::{Reports, last_numbers};
use crate::agent::shell::Shell;
use crate::agent::survival;
use crate::agent::watchdog::Watchdog;
use crate::config::values::GearChoice;
use crate::config::{Config, Resolved};
use crate::control::door::Door;
use crate::control::request::Request;
use crate::control::server::{self, Limits};
use crate::engine::{Engine, Event, Gears, Settings};
use crate::kernel::numbers::Hook;
use crate::kernel::programs::{KernelLog, Probes, Programs};
use crate::memory::{CgroupPath, ReadError};
use crate::recording::Recorder;
use crate::threshold::ThresholdError;
use crate::units::Nanos;

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
    /// The address for metrics can't be had.
    #[error("cannot serve metrics at {address} (metrics_listen): {error}")]
    Metrics {
        /// As configured.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The runtime refuses.
    #[error("cannot wait for kernel records or a time: {0}")]
    Poller(std::io::Error),
}

/// The shortest time between two ticks, should one not move the deadline that it is for.
const LEAST_WAIT: Duration = Duration::from_micros(100);

/// Calls that wait for the loop.
const WAITING_CALLS: usize = 1024;

/// Runs the agent until `shutdown`; a `recorder` is told all that the engine is told. `ready` is called when everything
/// is guarded and the socket is served.
///
/// # Errors
/// If what was asked for cannot be guarded. Missing kernel hooks are no error: they show in `status`.
pub async fn serve(
    resolved: Resolved,
    door: Door,
    shutdown: CancellationToken,
    recorder: Option<Recorder>,
    ready: impl FnOnce(),
) -> Result<(), AgentError> {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (requests, mut calls) = mpsc::channel(WAITING_CALLS);
    let in_force = resolved.shown();
    let config = resolved.config;
    let (reports, mut later) = Reports::start(&config);
    let mut shell = start(&config, reports, recorder, ended)?;
    shell.in_force = in_force;
    shell.bell = door.bell();
    let ring = match &shell.programs {
        Some(programs) => Some(readiness::readable(programs.events_fd().map_err(AgentError::Poller)?)),
        None => None,
    };
    let ring = ring.transpose().map_err(AgentError::Poller)?;
    if let Some(address) = config.metrics_listen {
        let scrapes = exporter::bind(address).map_err(|error| AgentError::Metrics { address, error })?;
        // With port 0 the kernel chose one.
        let address = scrapes.local_addr().unwrap_or(address);
        tracing::info!("metrics at http://{address}/metrics");
        tokio::spawn(exporter::serve(scrapes, requests.clone(), shutdown.clone()));
    }
    let server =
        tokio::spawn(server::serve(door, requests, Limits::of(Shares::now().connections), shutdown.clone()));
    let mut alarm = Alarm::new().map_err(AgentError::Poller)?;
    ready();
    let mut ticked = clock::now();
    // Whether records are left that the last turn did not get to: no new readiness will tell of them.
    let mut more = false;
    loop {
        shell.turn();
        // However fast records come, what is due is done: they are preferred below.
        let now = clock::now();
        if now >= next_tick(&shell, ticked) {
            shell.tick();
            ticked = now;
        }
        alarm.set(next_tick(&shell, ticked).max(ticked.after(LEAST_WAIT))).map_err(AgentError::Poller)?;
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
            }
            Some(end) = ends.recv() => shell.ended(end),
            Some(late) = later.recv() => shell.later(late),
            () = alarm.rings() => {}
            Some(request) = calls.recv() => match request {
                Request::Call { peer, op, reply } => {
                    // A client that went away needs no answer.
                    let _ = reply.send(shell.answer(peer, op).map(Shown::into_text));
                }
                Request::Closed { connection } => shell.hang_up(connection),
            },
        }
    }
    shell.end_brake();
    // It ends by the same signal.
    let _ = server.await;
    Ok(())
}

/// When the engine or a watchdog wants the next tick, after one at `ticked`. No later than a refresh, whatever the clock did.
fn next_tick(shell: &Shell, ticked: Nanos) -> Nanos {
    let due = shell.engine.next_deadline().min(ticked.after(shell.engine.pace()));
    shell.next_beat().map_or(due, |beat| due.min(ticked.after(beat)))
}

fn load(config: &Config) -> Result<Programs, Box<Probes>> {
    use crate::config::values::{BrakeMode, ProbeChoice};
    if let Some(why) = namespace::foreign(&config.procfs) {
        return Err(Programs::off(why));
    }
    let kernel_log = if config.kernel_log { KernelLog::On } else { KernelLog::Off };
    let usage: &[Hook] = match config.probe {
        ProbeChoice::Poll => return Err(Programs::off("switched off: probe = poll")),
        // Who is stopped at the line wants it to be the line.
        ProbeChoice::Auto if config.brake == BrakeMode::On => &[Hook::Memcg, Hook::RssStat],
        ProbeChoice::Auto => &Hook::USAGE,
        ProbeChoice::Memcg => &[Hook::Memcg],
        ProbeChoice::RssStat => &[Hook::RssStat],
    };
    let mut programs = Programs::load(kernel_log)?;
    programs.choose(usage);
    Ok(programs)
}

fn start(
    config: &Config,
    reports: Reports,
    recorder: Option<Recorder>,
    ended: mpsc::UnboundedSender<crate::agent::workers::members::Ended>,
) -> Result<Shell, AgentError> {
    let domains = Domains::new(
        config.procfs.clone(),
        config.cgroupfs.clone(),
        config.count_swap,
        Shares::now().domains,
    );
    let mut programs = load(config);
    if let Ok(programs) = &mut programs {
        domains.prepare(programs);
        if config.kernel_log {
            forward_kernel_log(programs);
        }
    }
    let mut settings = settings(config);
    settings.gears = gears(config, programs.as_ref().is_ok_and(|programs| programs.usage().is_some()));
    settings.inexact = programs.as_ref().is_ok_and(|programs| programs.usage() == Some(Hook::RssStat));
    settings.cpus = domains.cpus();
    let mut shell = Shell::new(Engine::new(settings.clone()), programs, domains, reports, ended);
    if shell.programs.as_ref().is_some_and(|programs| programs.usage().is_none()) {
        // Should there be one later.
        shell.gears_lost = Some((gears(config, true), false));
    }
    shell.recorder = recorder;
    shell.happen(Event::Settings(settings));
    let last = config.journal.as_deref().and_then(last_numbers);
    if let Some(last_kill) = last.as_ref().and_then(|last| last.kill) {
        shell.happen(Event::Resumed { last_kill });
    }
    shell.number_after(last, survival::follows_a_killed_agent());
    shell.scope = Scope::new(config.node);
    if survival::follows_a_killed_agent() {
        shell.follows_an_agent();
    }
    if config.node {
        let added = shell.domains.add_node().map_err(AgentError::Node)?;
        shell.happen(added);
        let total = shell.domains.node_total();
        let threshold = shell.engine.settings().threshold();
        total.map_or(Ok(()), |total| threshold.check_node(total)).map_err(AgentError::Threshold)?;
    }
    for cgroup in &config.cgroups {
        let name = |error: &dyn std::fmt::Display| AgentError::Cgroup {
            path: cgroup.display().to_string(),
            error: error.to_string(),
        };
        let path = CgroupPath::new(cgroup.as_os_str()).map_err(|error| name(&error))?;
        shell.guard_named(&path, config.node).map_err(|error| name(&error))?;
    }
    shell.delay = config.debug_delay;
    shell.watchdog = Watchdog::start(config.watchdog, shell.engine.settings(), shell.domains.roots())
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "no thread to act if the loop hangs");
            None
        });
    shell.prepare_brake(config.brake, config.brake_max);
    shell.warn_of_hooks();
    shell.happen(Event::Tick);
    Ok(shell)
}

/// Passes on what the programs log. For debugging: failing, it costs nothing but the log.
fn forward_kernel_log(programs: &mut Programs) {
    use std::os::fd::AsFd as _;
    let prepared = programs.take_logger().map_err(|error| error.to_string()).and_then(|logger| {
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
        Err(error) => tracing::warn!(%error, "no log of the kernel programs"),
    }
}

fn gears(config: &Config, hook: bool) -> Gears {
    match config.gear {
        _ if !hook => Gears::None,
        GearChoice::Auto => Gears::Auto,
        GearChoice::Near => Gears::Near,
    }
}

fn settings(config: &Config) -> Settings {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Settings {
        refresh_ms: config.refresh.map_or(0, millis),
        usage_threshold: config.usage_threshold,
        min_memory_free: config.min_memory_free,
        policy: config.policy,
        owner_tie_break: config.owner_tie_break,
        kill_buffer: config.kill_buffer,
        idle_threshold: config.idle_threshold,
        kill_timeout_ms: millis(config.kill_timeout),
        memory_wait_ms: millis(config.memory_wait),
        unhelpful_kills: config.unhelpful_kills,
        grace_ms: millis(config.grace),
        dry_run: config.dry_run,
        // Once it is known to be possible.
        brake: false,
        brake_max_ms: millis(config.brake_max),
        // Known with the programs.
        gears: Gears::None,
        inexact: false,
        cpus: 1,
    }
}
