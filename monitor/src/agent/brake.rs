//! The brake's shell: hears whom the kernel stopped, continues whom the engine lets go, keeps the releaser that does
//! it in the agent's place when the agent is gone. Decides nothing: that is `engine/brake`.

mod release;
pub(crate) mod releaser;
mod sentinel;

use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;

use self::release::release_all;
use self::sentinel::Sentinel;
use crate::agent::event_loop::clock;
use crate::agent::shell::Shell;
use crate::agent::survival::service;
use crate::agent::watchdog::Watchdog;
use crate::config::values::BrakeMode;
use crate::control::protocol::Push;
use crate::engine::{Event, HeldView, Note};
use crate::kill::{Process, SignalError};
use crate::units::Pid;
use crate::worker::WorkerId;

/// How often the agent shows that it works, at least.
const BEAT: Duration = Duration::from_millis(250);

/// The brake in `status`.
#[derive(Debug, Serialize)]
pub(super) struct BrakeView {
    /// As configured.
    mode: &'static str,
    /// Whether workers are stopped at the line.
    pub(super) on: bool,
    /// If it should be on and is not: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Who is held now.
    pub(super) held: Vec<HeldView>,
    /// The process that continues everyone if the agent can't.
    releaser: Option<Pid>,
}

/// The brake as the shell keeps it.
#[derive(Debug)]
pub(super) enum Brake {
    /// Not asked for.
    Off,
    /// Asked for, and in force.
    On(Sentinel),
    /// Asked for, and not possible.
    Failed(String),
}

impl Shell {
    /// Puts the brake in force if it is asked for and possible: never without a releaser.
    pub(super) fn prepare_brake(&mut self, mode: BrakeMode, longest: Duration) {
        let procfs = self.domains.roots().procfs.clone();
        self.brake = match (mode, &self.programs) {
            (BrakeMode::Off, _) => Brake::Off,
            (BrakeMode::On, Some(programs)) if programs.usage().is_some() => {
                match Sentinel::start(programs, &procfs, longest) {
                    Ok(sentinel) => Brake::On(sentinel),
                    Err(error) => Brake::Failed(format!("its releaser does not start: {error}")),
                }
            }
            (BrakeMode::On, _) => Brake::Failed("the kernel side does not count usage".to_owned()),
        };
        if let Brake::Failed(why) = &self.brake {
            tracing::warn!(%why, "there is no brake");
        }
        let on = matches!(self.brake, Brake::On(_));
        if self.engine.settings().brake != on {
            let settings = crate::engine::Settings { brake: on, ..self.engine.settings().clone() };
            self.happen(Event::Settings(settings));
        }
    }

    /// The latest time from one tick to the next, if the brake's releaser, the watchdog or the service manager waits for one.
    pub(super) fn next_beat(&self) -> Option<Duration> {
        let brake = match self.brake {
            Brake::On(_) => true,
            Brake::Off | Brake::Failed(_) => false,
        };
        let beat = (brake || self.watchdog.as_ref().is_some_and(Watchdog::watches)).then_some(BEAT);
        beat.into_iter().chain(service::every()).min()
    }

    /// At each tick: shows that the agent works, and that the releaser does.
    pub(super) fn beat(&mut self) {
        let Some(programs) = &mut self.programs else { return };
        let Brake::On(sentinel) = &mut self.brake else { return };
        programs.cells.beat();
        if let Some(why) = sentinel.ended() {
            tracing::warn!(%why, "the brake's releaser ended; starting another");
            let longest = Duration::from_millis(self.engine.settings().brake_max_ms);
            // Nobody is stopped while there is none.
            programs.cells.brake_off();
            self.brake = Brake::Off;
            self.prepare_brake(BrakeMode::On, longest);
            self.happen(Event::Settings(self.engine.settings().clone()));
        }
    }

    /// Stop records were lost: finds in the map who was stopped. Whom the engine knows of already counts once.
    pub(super) fn look_for_stopped(&mut self) {
        let stopped = self.programs.as_ref().map(|programs| programs.workers.stopped()).unwrap_or_default();
        for entry in stopped {
            self.happen(Event::Stopped { worker: entry.worker, pid: entry.pid, at: entry.since });
        }
    }

    /// Tells whoever registered a worker that a process of it is held, or is no more: who outlives agent and releaser
    /// continues it. Verdicts come first: they have half of the room for pushes to themselves.
    pub(super) fn tell_launcher(&self, note: &Note) {
        let (worker, pid, held) = if let Note::Stopped { worker, pid, .. } = note {
            (*worker, *pid, true)
        } else if let Note::Continued(release) = note {
            (release.worker, release.pid, false)
        } else {
            return;
        };
        let Some(peer) = self.registry.whose(worker) else { return };
        if peer.pushes.capacity() > peer.pushes.max_capacity() / 2 {
            // A launcher that reads too slowly may miss it: it is the last of those who continue.
            let _ = peer.pushes.try_send(Push::Held { worker, pid, held });
        }
    }

    /// Continues a process that the kernel stopped. The order matters: it can be stopped again before it runs, and if
    /// the agent is killed between any two steps, the map still names it.
    pub(super) fn continue_process(&mut self, worker: WorkerId, pid: Pid) {
        let entry = self.registry.get(worker);
        let member = entry.and_then(|entry| entry.members.iter().find(|member| member.process.pid() == pid));
        let process = match member {
            Some(member) => member.process.clone(),
            // Forgotten, or its fork record is still to come.
            None => match release::open_stopped(&self.domains.roots().procfs, pid, clock::now()) {
                Some(process) => process,
                None => return,
            },
        };
        let now = clock::now();
        if let Some(programs) = &mut self.programs {
            programs.workers.letting_go(pid, now);
        }
        proceed(&process);
        if let Some(programs) = &mut self.programs {
            programs.workers.let_go(pid, now);
        }
    }

    /// Takes a process out of the programs' map; if the brake held it, it goes on.
    pub(super) fn let_leave(&mut self, process: &Process) {
        let Some(programs) = &mut self.programs else { return };
        let held = programs.workers.stopped_at(process.pid()).is_some();
        programs.workers.remove(process.pid());
        if held {
            proceed(process);
        }
    }

    /// The agent ends: nobody is stopped any more, and nobody stays stopped.
    pub(super) fn end_brake(&mut self) {
        if matches!(self.brake, Brake::Off | Brake::Failed(_)) {
            return;
        }
        if let Some(programs) = &mut self.programs {
            let released =
                release_all(&mut programs.cells, &mut programs.workers, &self.domains.roots().procfs);
            if released > 0 {
                tracing::info!(released, "continued those whom the brake held");
            }
        }
    }

    /// For `status`.
    pub(super) fn brake_view(&self) -> BrakeView {
        let (mode, on, why, releaser) = match &self.brake {
            Brake::Off => ("off", false, None, None),
            Brake::On(sentinel) => ("on", self.engine.settings().brakes(), None, Some(sentinel.pid())),
            Brake::Failed(why) => ("on", false, Some(why.clone()), None),
        };
        let idle = "nobody is killed here (refresh_ms = 0 or dry_run), so nobody is stopped";
        let why = why.or_else(|| (mode == "on" && !on).then(|| idle.to_owned()));
        BrakeView { mode, on, why, held: self.engine.held(), releaser }
    }
}

fn proceed(process: &Process) {
    match process.signal(Signal::CONT) {
        Ok(()) | Err(SignalError::Gone) => {}
        Err(error) => tracing::error!(pid = %process.pid(), %error, "a stopped worker cannot be continued"),
    }
}
