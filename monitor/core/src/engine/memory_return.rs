//! Dead, and is their memory back? A process that is gone has let go of its memory, but the kernel gives it back only
//! when nobody else holds it: a reader of its /proc files does for as long as it reads. Without `process_mrelease`'s word
//! that it was taken, the domain's own reading says whether the next victim may be picked, for a short time.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::domain::Domain;
use super::flight::Flight;
use super::memory_wait::{Answer, Wait};
use super::worker::Worker;
use super::{Action, DomainId, Engine};
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// The longest that readings are waited for to fall: workers that the brake stopped wait with them.
const LONGEST: Duration = Duration::from_millis(200);

/// The time from one reading to the next.
const EVERY: Duration = Duration::from_millis(10);

impl Engine {
    /// All died, and nobody says that their memory is not back. Whether it is by what the kernel said of each process; if
    /// not, the domain is read, now and then.
    pub(super) fn memory_is_proven(&mut self, index: usize, now: Nanos, todo: &mut VecDeque<Action>) -> bool {
        let flight = &mut self.flights[index];
        let unproven = |victim: &WorkerId| self.workers.get(victim).is_some_and(Worker::unproven);
        if !flight.victims.iter().any(unproven) {
            return true;
        }
        match &mut flight.wait {
            None => {
                let longest = now.after(LONGEST);
                flight.memory_deadline = Some(flight.memory_deadline.map_or(longest, |end| end.min(longest)));
                flight.wait = Some(Wait::new(now.after(EVERY)));
                todo.push_back(Action::Read(flight.domain));
            }
            Some(wait) if wait.next <= now => {
                wait.next = now.after(EVERY);
                todo.push_back(Action::Read(flight.domain));
            }
            Some(_) => {}
        }
        false
    }

    /// A domain was read: is a kill waiting for that?
    pub(super) fn memory_was_read(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) {
        let waits = |flight: &Flight| flight.domain == id && flight.wait.is_some();
        let Some(index) = self.flights.iter().position(waits) else { return };
        let flight = &mut self.flights[index];
        let victims = flight.victims.iter().filter_map(|victim| self.workers.get(victim));
        // Not while a process lives that was told of after the last death.
        let dead = victims.clone().all(|victim| victim.dead_at().is_some());
        let Some(wait) = flight.wait.as_mut().filter(|_| dead) else { return };
        let held = victims.map(Worker::memory).try_fold(Bytes(0), |sum, one| Some(sum.saturating_add(one?)));
        // Not above, or not known to be: nobody else is in danger.
        let above = self.domains.get(&id).and_then(Domain::usage).filter(|usage| usage.above());
        match above.map_or(Answer::Back, |usage| wait.take(usage, flight.record.used, held)) {
            Answer::Back => {
                flight.record.times.memory_back = Some(now);
                self.land(index, true, now, todo);
            }
            Answer::TooLate => self.land(index, true, now, todo),
            Answer::Wait => {}
        }
    }
}
