//! What the loop does at each turn, and at a tick besides what the engine has due: what nobody wakes it for.

use std::time::Duration;

use super::{Shell, WAITING};
use crate::agent::event_loop::clock;
use crate::agent::survival::service;
use crate::diagnostics;
use crate::engine::Event;

/// How often it is looked whether the socket's file is there, at most.
const SOCKET_LOOKS: Duration = Duration::from_secs(2);

impl Shell {
    /// At each turn of the loop: it does not hang.
    pub(in crate::agent) fn turn(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.beat();
        }
        service::beat(&mut self.manager_told);
    }

    /// What is due at the engine's deadline, and what only a look can tell: deltas, which wake nobody, lost records,
    /// descendants without the fork hook.
    pub(in crate::agent) fn tick(&mut self) {
        self.beat();
        self.drain();
        self.check_drops();
        self.try_hooks_again();
        self.look_after_workers();
        self.sweep_victims();
        self.look_after_the_dying();
        self.happen(Event::Tick);
        // A reading, its line and a note or two for each domain.
        self.todo.reserve(WAITING + 4 * self.domains.len());
        self.lift_bars();
        self.recheck_some();
        self.recheck_domains();
        self.nominate();
        self.tell_of_lost_lines();
        self.sharing.check(clock::now());
        self.ring();
    }

    /// No tick comes for this alone.
    fn ring(&mut self) {
        let now = clock::now();
        if now.since(self.rang) >= SOCKET_LOOKS {
            self.rang = now;
            self.bell.look();
        }
    }

    /// Diagnostics that nobody read in time.
    fn tell_of_lost_lines(&mut self) {
        let lost = diagnostics::lost();
        if lost > self.lines_lost {
            tracing::warn!(lines = lost - self.lines_lost, "nobody read stderr for a while: lines were lost");
            self.lines_lost = lost;
        }
    }
}
