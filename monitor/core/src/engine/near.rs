//! Near its limit a domain is read so often that no growth reaches the limit between two readings, whichever way memory is
//! charged: no hook sees all of it (shared memory, files in memory and sockets are charged without being mapped, some
//! kernel memory is seen by none). What decides is the fastest growth that is plausible, as for the gears. Far away the
//! ordinary readings are often enough, and nothing is read for this.

use core::time::Duration;

use super::flight::Flight;
use super::{DomainId, Engine};
use crate::units::{Bytes, Nanos};

/// The ordinary ticks are as frequent as that where it matters.
const OFTEN: Duration = Duration::from_millis(50);

/// The shortest time between two readings. One takes some 10 µs.
const LEAST: Duration = Duration::from_millis(1);

impl Engine {
    /// After a reading: when the next is due at the latest. There may be as much more as takes it half way from the threshold
    /// to the end: the other half is for the kill.
    pub(super) fn read_again_in_time(&mut self, id: DomainId, now: Nanos) {
        let Some(domain) = self.domains.get(&id) else { return };
        let wanted = self.settings.kills() && !domain.roster.is_empty() && !domain.above();
        let until = domain.usage().filter(|_| wanted).map(|usage| {
            let beyond = Bytes(usage.total.saturating_sub(usage.threshold).0 / 2);
            self.time_to_use(usage.threshold.saturating_add(beyond).saturating_sub(usage.used))
        });
        let due = until.filter(|until| *until < OFTEN).map(|until| now.after(until.max(LEAST)));
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.read_next = due;
        }
    }

    /// When the next domain is to be read for this.
    pub(super) fn next_near_reading(&self) -> Option<Nanos> {
        self.domains.values().filter_map(|domain| domain.read_next).min()
    }

    /// Domains that are to be read now.
    pub(super) fn near_and_due(&self, now: Nanos) -> impl Iterator<Item = DomainId> + '_ {
        let due = move |due: Nanos| due <= now || due > now.after(OFTEN);
        self.domains.iter().filter(move |(_, domain)| domain.read_next.is_some_and(due)).map(|(id, _)| *id)
    }

    /// Whether no more is due than readings: of domains near their limit, or where memory is to come back. Those must not
    /// cost what a whole tick does.
    #[must_use]
    pub fn only_reads(&self, now: Nanos) -> bool {
        // Of the dead only readings tell whether their memory is back.
        let waits =
            |flight: &Flight| flight.wait.is_some() && flight.memory_deadline.is_some_and(|end| now < end);
        self.flights.iter().all(waits)
            && now < self.next_refresh
            && self.brake_deadline().is_none_or(|due| now < due)
            && self.next_after_backoff().is_none_or(|due| now < due)
            && self.next_gauge_deadline().is_none_or(|due| now < due)
    }
}
