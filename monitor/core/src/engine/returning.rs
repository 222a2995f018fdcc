//! Dead, and is their memory back? A process that is gone has let go of its memory, but the kernel gives it back only
//! when nobody else holds it: a reader of its /proc files does for as long as it reads. Without `process_mrelease`'s word
//! that it was taken, the domain's own reading says whether the next victim may be picked, for a short time.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::domain::Domain;
use super::flight::Flight;
use super::worker::Worker;
use super::{Action, DomainId, Engine};
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// The longest that readings are waited for to fall: workers that the brake stopped wait with them.
const LONGEST: Duration = Duration::from_millis(200);

/// The time from one reading to the next.
const EVERY: Duration = Duration::from_millis(10);

/// Victims that hold less than this part of what is too much do not help: others must follow, whatever comes back.
const TOO_SMALL: u64 = 4;

/// Less than this is nothing: a stack, a table, what others do meanwhile.
const NOTHING: Bytes = Bytes(1 << 20);

/// The wait for memory that no reading shows to be back. It ends with the flight's `memory_deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// When the next reading is due.
    pub(super) next: Nanos,
    /// What the readings since the deaths said: the first, and the last.
    seen: Option<(Bytes, Bytes)>,
}

/// What a reading after the deaths says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It is back, or there is nothing of it to wait for.
    Back,
    /// It may be on its way.
    Wait,
    /// It may be, and there is no time to wait for it.
    TooLate,
}

impl Wait {
    /// Takes a reading that is above. `before`: what was used at the decision; `held`: by the victims, if all were
    /// measured.
    fn take(&mut self, usage: Usage, before: Bytes, held: Option<Bytes>) -> Answer {
        let used = usage.used;
        let (first, last) = self.seen.unwrap_or((used, before));
        self.seen = Some((first, used));
        // Others take what is left.
        if used.saturating_sub(first).0 > usage.total.saturating_sub(first).0 / 2 {
            return Answer::TooLate;
        }
        let excess = used.saturating_sub(usage.threshold);
        let came_back = before.saturating_sub(used);
        match held {
            Some(held) if held.0.saturating_mul(TOO_SMALL) < excess.0 => Answer::Back,
            // The measurement is older than the decision: most of it is all.
            Some(held) if came_back.0 >= held.0 - held.0 / 4 => Answer::Back,
            Some(_) => Answer::Wait,
            // Nobody knows how much there is to come: as long as it becomes less, or nothing came or went.
            None if used < last || used.0.abs_diff(before.0) < NOTHING.0 => Answer::Wait,
            None => Answer::Back,
        }
    }
}

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
                flight.wait = Some(Wait { next: now.after(EVERY), seen: None });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of a domain of 100 MiB, threshold 50, at 60 when it was decided.
    fn answers(held: Option<u64>, readings: &[u64]) -> Vec<Answer> {
        let mib = |mib: u64| Bytes(mib << 20);
        let mut wait = Wait { next: Nanos(0), seen: None };
        let usage = |used| Usage { total: mib(100), used: mib(used), threshold: mib(50) };
        readings.iter().map(|used| wait.take(usage(*used), mib(60), held.map(mib))).collect()
    }

    #[test]
    fn what_was_measured_is_waited_for() {
        use Answer::{Back, TooLate, Wait};
        assert_eq!(answers(Some(8), &[60, 60, 57, 54]), [Wait, Wait, Wait, Back]);
        assert_eq!(answers(Some(8), &[54]), [Back], "at once, and others grew a little");
        assert_eq!(answers(Some(2), &[60]), [Back], "a fifth of the excess: others must follow");
        assert_eq!(answers(Some(8), &[60, 70, 80, 81]), [Wait, Wait, Wait, TooLate], "half of what was left");
    }

    #[test]
    fn of_the_unmeasured_only_what_comes_back_or_stands_still_is_waited_for() {
        use Answer::{Back, Wait};
        assert_eq!(answers(None, &[60, 60, 57, 54, 54]), [Wait, Wait, Wait, Wait, Back]);
        assert_eq!(answers(None, &[61]), [Back], "others grow, and nobody knows what it held");
    }
}
