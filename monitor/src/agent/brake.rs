//! The brake's side in the agent: hears which processes the kernel paused, resumes those that the engine releases, and
//! keeps the releaser that does it in the agent's place when the agent is gone. Decides nothing: that is
//! `engine/brake`.

mod release;
pub(crate) mod releaser;
mod sentinel;

use std::time::Duration;

use self::release::release_all;
use self::sentinel::Sentinel;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::turn::Turn;
use crate::agent::workers::Workers;
use crate::config::values::BrakeMode;
use crate::control::answers::BrakeView;
use crate::engine::{Engine, Event, Settings};
use crate::units::Pid;
use crate::worker::WorkerId;

/// The brake as it stands.
#[derive(Debug)]
pub(super) enum Brake {
    /// Not asked for.
    Off,
    /// Asked for, and in force.
    On(Sentinel),
    /// Asked for, and not possible.
    Failed(String),
}

impl Brake {
    /// Puts it in force if it is asked for and possible: never without a releaser. `counts`: a hook counts usage.
    pub(super) fn prepare(
        &mut self,
        turn: &mut Turn<'_>,
        (mode, longest): (BrakeMode, Duration),
        (domains, workers): (&Domains, &Workers),
        counts: bool,
    ) {
        *self = match (mode, domains.shared(), &workers.map) {
            (BrakeMode::Off, ..) => Self::Off,
            (BrakeMode::On, Some(cells), Some(map)) if counts => {
                match Sentinel::start(cells, map, workers.procfs(), longest) {
                    Ok(sentinel) => Self::On(sentinel),
                    Err(error) => Self::Failed(format!("its releaser does not start: {error}")),
                }
            }
            (BrakeMode::On, ..) => Self::Failed("the kernel side does not count usage".to_owned()),
        };
        if let Self::Failed(why) = self {
            tracing::warn!(%why, "the brake is not available");
        }
        let on = self.is_on();
        if turn.engine.settings().brake != on {
            turn.tell(Event::Settings(Settings { brake: on, ..turn.engine.settings().clone() }));
        }
    }

    /// Whether the releaser waits for signs of life.
    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// Whether it was asked for, and there was nothing to brake with.
    pub(super) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// At each tick: shows that the agent works, and that the releaser does.
    pub(super) fn beat(
        &mut self,
        turn: &mut Turn<'_>,
        domains: &mut Domains,
        workers: &Workers,
        counts: bool,
    ) {
        let (Self::On(sentinel), Some(cells)) = (&mut *self, domains.cells()) else { return };
        cells.beat();
        if let Some(why) = sentinel.ended() {
            tracing::warn!(%why, "the brake's releaser ended; starting another");
            let longest = Duration::from_millis(turn.engine.settings().brake_max_ms);
            // Nothing is paused while there is none.
            cells.brake_off();
            *self = Self::Off;
            self.prepare(turn, (BrakeMode::On, longest), (domains, workers), counts);
            turn.tell(Event::Settings(Settings { brake: self.is_on(), ..turn.engine.settings().clone() }));
        }
    }

    /// The agent ends: no process is paused any more, and none stays paused.
    pub(super) fn end(&self, domains: &mut Domains, workers: &mut Workers) {
        let procfs = workers.procfs().to_owned();
        let (Self::On(_), Some(cells), Some(map)) = (self, domains.cells(), &mut workers.map) else { return };
        let released = release_all(cells, map, &procfs);
        if released > 0 {
            tracing::info!(released, "resumed the processes that the brake had paused");
        }
    }

    /// For `status`.
    pub(super) fn view(&self, engine: &Engine) -> BrakeView {
        let (mode, on, why, releaser) = match self {
            Self::Off => ("off", false, None, None),
            Self::On(sentinel) => ("on", engine.settings().brakes(), None, Some(sentinel.pid())),
            Self::Failed(why) => ("on", false, Some(why.clone()), None),
        };
        let idle = "the agent kills nothing (refresh_ms = 0 or dry_run), so it pauses nothing";
        let why = why.or_else(|| (mode == "on" && !on).then(|| idle.to_owned()));
        BrakeView { mode: mode.to_owned(), on, why, held: engine.held(), releaser }
    }
}

/// Stop records were lost: finds the paused processes in the map. One that the engine knows of already counts once.
pub(super) fn look_for_stopped(turn: &mut Turn<'_>, workers: &Workers) {
    let stopped = workers.map.as_ref().map(crate::kernel::workers::WorkerMap::stopped).unwrap_or_default();
    for entry in stopped {
        turn.tell(Event::Stopped { worker: entry.worker, pid: entry.pid, at: entry.since });
    }
}

/// Resumes a process that the kernel stopped. The order matters: it can be stopped again before it runs, and if
/// the agent is killed between any two steps, the map still names it.
pub(super) fn let_go(workers: &mut Workers, worker: WorkerId, pid: Pid) {
    let entry = workers.registry.get(worker);
    let member = entry.and_then(|entry| entry.members.iter().find(|member| member.process.pid() == pid));
    let process = match member {
        Some(member) => member.process.clone(),
        // Forgotten, or its fork record is still to come.
        None => match release::open_stopped(workers.procfs(), pid, clock::now()) {
            Some(process) => process,
            None => return,
        },
    };
    let now = clock::now();
    if let Some(map) = &mut workers.map {
        map.letting_go(pid, now);
    }
    process.resume();
    if let Some(map) = &mut workers.map {
        map.let_go(pid, now);
    }
}
