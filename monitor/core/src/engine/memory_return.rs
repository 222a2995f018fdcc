//! Is the memory of dead victims back? A process that is gone has released its memory, but the kernel gives it back
//! only when nothing else holds it, and a reader of its /proc files holds it while it reads. Also, `process_mrelease`
//! frees private memory only. So, for a short time, the domain's own readings say whether the engine may pick the next
//! victim.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::domain::Domain;
use super::flight::Flight;
use super::memory_wait::{Answer, Wait};
use super::worker::Worker;
use super::{Action, DomainId, Engine};
use crate::units::{Bytes, Nanos};

/// The longest that readings are waited for to fall: workers that the brake stopped wait with them.
const LONGEST: Duration = Duration::from_millis(200);

/// The time from one reading to the next.
const EVERY: Duration = Duration::from_millis(2);

impl Engine {
    /// All died, and nothing shows that their memory is not back. Whether it is, the domain is asked, now and then:
    /// that `process_mrelease` took it says nothing of shared memory and files, which come back when they are closed.
    pub(super) fn ask_for_memory(&mut self, index: usize, now: Nanos, todo: &mut VecDeque<Action>) {
        let longest = now.after(self.memory_patience(index, now).min(LONGEST));
        let flight = &mut self.flights[index];
        match &mut flight.wait {
            None => {
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
    }

    /// How long the memory of the dead is waited for.
    pub(super) fn memory_patience(&self, index: usize, now: Nanos) -> Duration {
        let whole = Duration::from_millis(self.settings.memory_wait_ms);
        let uids = self.uids_of(&self.flights[index].victims);
        uids.map(|uid| self.patience.memory(uid, whole, now)).min().unwrap_or(whole)
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
        let gone = victims.clone().all(Worker::gone);
        let held = victims.map(Worker::memory).try_fold(Bytes(0), |sum, one| Some(sum.saturating_add(one?)));
        // Not known to be over the threshold: no other worker is in danger, and nothing is proven.
        let Some(usage) = self.domains.get(&id).and_then(Domain::usage) else {
            return self.land(index, true, now, todo);
        };
        match wait.take(usage, flight.record.used, held, gone, now) {
            Answer::Back(at) => {
                flight.record.times.memory_back = Some(at);
                self.land(index, true, now, todo);
            }
            Answer::TooLittle | Answer::TooLate => self.land(index, true, now, todo),
            Answer::Wait => {}
        }
    }
}
