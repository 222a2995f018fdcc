//! The shell: the engine, the queue of its orders, the recorder, and the components. It dispatches: what happens goes to
//! the component that it concerns and to the engine, and what the engine orders goes to the component that carries it
//! out. Everything between a record and the signal happens on one thread, without waiting for anything.
//!
//! A component knows no shell. Its methods get a [`Turn`], and what they tell the engine hears right after them.

mod actions;
mod calls;
mod notes;
mod records;
mod reload;
mod tick;

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::agent::api::Api;
use crate::agent::brake::Brake;
use crate::agent::callbacks::Callbacks;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::later::Later;
use crate::agent::hooks::Hooks;
use crate::agent::killing::Killing;
use crate::agent::killing::previous_agent::PreviousAgent;
use crate::agent::learned::LearnedFile;
use crate::agent::oom_counters::OomCounters;
use crate::agent::raylets::Raylets;
use crate::agent::reports::Reports;
use crate::agent::reports::past::Past;
use crate::agent::rules::RuleBook;
use crate::agent::samples::Samples;
use crate::agent::starts::Starts;
use crate::agent::survival::Upkeep;
use crate::agent::turn::Turn;
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::Workers;
use crate::agent::workers::measure::Measuring;
use crate::agent::workers::members::Ended;
use crate::config::values::BrakeMode;
use crate::control::answers::Faults;
use crate::engine::{Action, Engine, Event};
use crate::recording::Recorder;
use crate::units::Nanos;
use crate::worker::WorkerId;

/// How many orders can wait at least before the queue needs more memory, besides those about each domain.
const WAITING: usize = 256;

/// What each looks after, its module says.
pub(super) struct Components {
    pub(super) domains: Domains,
    pub(super) workers: Workers,
    pub(super) measuring: Measuring,
    pub(super) hooks: Hooks,
    pub(super) killing: Killing,
    pub(super) previous_agent: PreviousAgent,
    pub(super) brake: Brake,
    pub(super) raylets: Raylets,
    pub(super) watchdog: Watchdog,
    pub(super) reports: Reports,
    pub(super) samples: Samples,
    pub(super) api: Api,
    pub(super) rules: RuleBook,
    pub(super) starts: Starts,
    pub(super) learned: LearnedFile,
    pub(super) upkeep: Upkeep,
    pub(super) oom_counters: OomCounters,
    pub(super) past: Past,
    pub(super) callbacks: Callbacks,
}

/// What other threads and timers send to the loop.
pub(super) struct Inbox {
    pub(super) ends: UnboundedReceiver<Ended>,
    pub(super) later: UnboundedReceiver<Later>,
}

/// See the module.
pub(super) struct Shell {
    engine: Engine,
    /// With room to spare, so that a kill finds its place without memory (`tick`).
    todo: VecDeque<Action>,
    /// What the engine was not told yet; empty between two steps.
    heard: VecDeque<Event>,
    /// Writes down all that the engine is told, if that is asked for.
    recorder: Option<Recorder>,
    /// What went wrong around decisions.
    faults: Faults,
    started: Nanos,
    /// When a tick does all that it can do at the latest.
    whole_tick: Nanos,
    parts: Components,
}

/// A step of a component, which may borrow any of `$shell.parts` beside it.
macro_rules! turn {
    ($shell:ident) => {
        &mut $crate::agent::turn::Turn::begin(&$shell.engine, &mut $shell.faults, &mut $shell.heard)
    };
}
use turn;

impl Shell {
    /// Complete: nothing is added later.
    pub(super) fn new(engine: Engine, recorder: Option<Recorder>, started: Nanos, parts: Components) -> Self {
        Self {
            engine,
            todo: VecDeque::with_capacity(WAITING),
            heard: VecDeque::with_capacity(WAITING),
            recorder,
            faults: Faults::default(),
            started,
            whole_tick: Nanos(0),
            parts,
        }
    }

    /// A step of a component at the start: what it tells is heard, and what is ordered then is done.
    pub(super) fn step<T>(&mut self, work: impl FnOnce(&mut Components, &mut Turn<'_>) -> T) -> T {
        let done = work(&mut self.parts, turn!(self));
        self.settle();
        done
    }

    /// Tells the engine, and does what it orders.
    pub(super) fn happen(&mut self, event: Event) {
        self.tell(event);
        self.carry_out();
    }

    /// After a step: tells the engine what happened in it, and does what that orders.
    fn settle(&mut self) {
        self.tell_heard();
        self.carry_out();
    }

    fn tell_heard(&mut self) {
        while let Some(event) = self.heard.pop_front() {
            self.tell(event);
        }
    }

    /// Tells the engine, and the recording if there is one: the only way an event reaches it. What the watchdog did comes
    /// before everything that followed from it.
    fn tell(&mut self, event: Event) {
        self.hear_of_the_watchdog();
        if matches!(event, Event::Ended { .. }) {
            self.hear_of_a_kernel_kill(&event);
        }
        self.tell_this(event);
    }

    fn hear_of_the_watchdog(&mut self) {
        for killed in self.parts.watchdog.told() {
            self.tell_this(killed);
        }
    }

    /// An end that the kernel's own killer made, which no hook told of.
    fn hear_of_a_kernel_kill(&mut self, end: &Event) {
        let Components { hooks, domains, workers, oom_counters, .. } = &mut self.parts;
        if let Some(killed) = oom_counters.killed(end, (hooks, domains, &workers.registry), clock::now()) {
            self.tell_this(killed);
        }
    }

    fn tell_this(&mut self, event: Event) {
        let now = clock::now();
        if let Some(recorder) = &mut self.recorder {
            recorder.note(now, &event);
        }
        self.engine.handle(event, now, &mut self.todo);
    }

    /// Before the signals of an order: from now on the watchdog kills nothing. If it was first, that is heard of now.
    /// False: the order was withdrawn for what the watchdog did.
    fn may_strike(&mut self, worker: WorkerId) -> bool {
        if !self.parts.watchdog.stand_down() {
            self.hear_of_the_watchdog();
        }
        self.engine.in_flight(worker)
    }

    /// Puts the brake in force if it is asked for and possible.
    pub(super) fn prepare_brake(&mut self, mode: BrakeMode, longest: std::time::Duration) {
        let counts = self.parts.hooks.usage().is_some();
        let Components { brake, domains, workers, .. } = &mut self.parts;
        brake.prepare(turn!(self), (mode, longest), (domains, workers), counts);
        self.settle();
    }

    /// The loop ends: no process stays paused.
    pub(super) fn end(&mut self) {
        let Components { brake, domains, workers, learned, .. } = &mut self.parts;
        brake.end(domains, workers);
        learned.end(&self.engine, clock::now());
    }

    pub(super) fn parts(&self) -> &Components {
        &self.parts
    }
}

#[cfg(test)]
mod tests;
