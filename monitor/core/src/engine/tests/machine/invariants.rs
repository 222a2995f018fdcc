//! What must hold whatever happens.

use super::*;

impl Node {
    /// No trigger passes in silence: over the threshold, a worker is being killed, or it is counted that none can or
    /// need be, or it is being measured, for a short time, what took the memory; an unknown state is counted too.
    pub(super) fn check_trigger(&self, domain: DomainId, before: Counters) {
        let (state, counters) = (&self.engine.domains[&domain], self.engine.counters());
        if state.above() {
            let killing = self.engine.flights.iter().any(|flight| self.engine.overlap(flight.domain, domain));
            // One that shows a victim's memory to be back ends its kill, and is followed by another.
            let again = state.after_kill.is_some();
            let asked = state.row.as_ref().and_then(|row| row.asked);
            // Ticks come at most 100 ms apart here.
            let measures = asked.is_some_and(|asked| self.now.since(asked).as_millis() <= 110);
            let counted = counters.no_candidates > before.no_candidates || counters.spared > before.spared;
            assert!(killing || again || measures || counted, "above, and nothing came of it");
        } else if state.usage().is_none() && !matches!(state.state, domain::State::NoLimit(_)) {
            assert_eq!(counters.unknown_readings, before.unknown_readings + 1);
        }
    }

    /// What must hold after every step.
    pub(super) fn check(&self) {
        assert_eq!(self.kill_of_unregistered, None, "an order to kill an unregistered worker");
        let flights = &self.engine.flights;
        for (index, one) in flights.iter().enumerate() {
            for other in &flights[index + 1..] {
                // The first gave way, or lies within the domain of the second, which waited for it long enough.
                let may = one.looked || self.engine.within(one.domain, other.domain);
                assert_ne!(one.domain, other.domain, "kills {} and {}", one.id, other.id);
                assert!(
                    may || !self.engine.overlap(one.domain, other.domain),
                    "kills {} and {} overlap",
                    one.id,
                    other.id
                );
            }
        }
        for (kill, until) in &self.open {
            assert!(self.now <= *until, "kill {kill} neither confirmed nor given up");
            assert!(flights.iter().any(|flight| flight.id == *kill), "kill {kill} is lost");
        }
        assert_eq!(self.engine.workers.len(), self.workers.len(), "the books");
        for (id, worker) in &self.engine.workers {
            for charged in worker.domains.iter().map(|domain| &self.engine.domains[domain]) {
                let candidate = worker.life == super::super::worker::Life::Running;
                assert_eq!(charged.roster.get(*id).is_some(), candidate, "{id} in {}", charged.name);
                assert!(charged.parent.is_none_or(|around| worker.domains.contains(&around)), "{id}");
            }
        }
        let counters = self.engine.counters();
        let living = u64::try_from(self.workers.len()).unwrap();
        let ended =
            counters.killed + counters.exited + counters.crashed + counters.unregistered + counters.died_late;
        assert_eq!(counters.registered, living + ended, "{counters:?}");
        assert!(counters.died_late <= counters.stuck, "{counters:?}");
        let kills = u64::try_from(self.ended.len() + flights.len()).unwrap();
        assert_eq!(counters.kills, kills, "each kill is over or in flight");
        self.check_brake();
        self.check_starts();
    }

    /// Every paused process is resumed in time, and the engine and the kernel agree on which ones are paused.
    pub(super) fn check_brake(&self) {
        let late = self.held.iter().find(|(_, until)| self.now > **until);
        assert_eq!(late, None, "held for too long");
        let held: Vec<Pid> = self.engine.held().iter().map(|held| held.pid).collect();
        assert!(held.iter().eq(self.held.keys()), "{held:?} and {:?}", self.held);
        assert_eq!(self.engine.counters().stopped, self.stopped);
    }
}
