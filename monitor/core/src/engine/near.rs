//! Near its limit a domain is read so often that no growth reaches the limit between two readings, whichever way memory
//! is charged: no hook sees all of it (shared memory, files in memory and sockets are charged without being mapped,
//! some kernel memory is seen by none). The fastest plausible growth decides, as for the gears. Far from the limit, the
//! ordinary readings are frequent enough.
//!
//! These readings have a budget, divided among the users with workers in such domains: one user's cgroups, however
//! many, do not slow down the answer to another user's. If a user's share is too small, or a domain is so small that
//! readings cannot keep up with the fastest growth anyway, the fastest measured growth decides instead. A domain that
//! does not grow is read less and less often, in the end only by the ordinary readings, and a growing one comes first.
//! The hooks still wake the agent for mapped memory.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::domain::Domain;
use super::flight::Flight;
use super::gear::FASTEST_PER_CPU;
use super::{DomainId, Engine};
use crate::units::{Bytes, Nanos};

/// The shortest time between two readings. One takes some 10 µs, and as much again for waking up.
const LEAST: Duration = Duration::from_millis(1);

/// How many such readings there are in a second in the long run, for all domains together: half a percent of a processor.
const RATE: u32 = 200;

/// How many each may have saved up, for the time in which a domain grows.
const SAVED: u32 = 200;

/// Which share pays for reading a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Payer {
    /// It lies in no other domain, as the node does: it has a share of its own.
    Itself(DomainId),
    /// All workers in it belong to this user.
    User(u32),
    /// It has workers of several users.
    Several,
}

/// How much may still be read. A payer that used nothing for a while is not in it.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Until when each has used up what comes in.
    used_until: BTreeMap<Payer, Nanos>,
}

impl Budget {
    /// How often each can have a domain read in the long run.
    fn share(&self, payer: Payer) -> Duration {
        let others = self.used_until.keys().filter(|other| **other != payer).count();
        let payers = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        Duration::from_nanos(1_000_000_000 / u64::from(RATE)).saturating_mul(payers)
    }

    /// When this one can have the next one; and when, if a half of what can be saved is to be left for what grows.
    fn next(&self, payer: Payer, now: Nanos) -> (Nanos, Nanos) {
        let saved = self.share(payer).saturating_mul(SAVED);
        let until = self.used_until.get(&payer).map_or(Duration::ZERO, |until| until.since(now));
        (now.after(until.saturating_sub(saved)), now.after(until.saturating_sub(saved / 2)))
    }

    fn take(&mut self, payer: Payer, now: Nanos) {
        let share = self.share(payer);
        let until = self.used_until.entry(payer).or_insert(now);
        *until = now.max(*until).after(share);
    }

    /// At an ordinary tick.
    pub(super) fn forget_the_idle(&mut self, now: Nanos) {
        self.used_until.retain(|_, until| *until > now);
    }
}

/// `None`: nobody could be killed there.
fn payer(id: DomainId, domain: &Domain) -> Option<Payer> {
    let mut users = domain.roster.iter().map(|candidate| candidate.uid);
    let first = users.next()?;
    Some(match domain.parent {
        None => Payer::Itself(id),
        Some(_) if users.all(|user| user == first) => Payer::User(first),
        Some(_) => Payer::Several,
    })
}

impl Engine {
    /// After a reading: when the next is due at the latest. There may be as much more as takes it half way from the threshold
    /// to the end: the other half is for the kill.
    pub(super) fn read_again_in_time(&mut self, id: DomainId, now: Nanos) {
        let due = self.due_for_its_room(id, now);
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.read_next = due;
        }
    }

    fn due_for_its_room(&mut self, id: DomainId, now: Nanos) -> Option<Nanos> {
        let (kills, pace, fastest) = (self.settings.kills(), self.pace(), self.fastest_growth());
        let domain = self.domains.get_mut(&id)?;
        let usage = domain.usage()?;
        domain.growth.saw(usage.used, now, fastest);
        let gap = usage.total.saturating_sub(usage.threshold);
        let room = usage.threshold.saturating_add(Bytes(gap.0 / 2)).saturating_sub(usage.used);
        let seen = domain.growth.time_to_use(room).max(LEAST);
        let possible = self.time_to_use(room).max(LEAST);
        // Far away, which is nearly always, an ordinary reading comes first: nobody has to pay.
        if possible >= pace {
            return None;
        }
        let domain = self.domains.get(&id).filter(|domain| kills && !domain.above())?;
        let payer = payer(id, domain)?;
        let (next, next_of_a_half) = self.near.next(payer, now);
        // One processor fills what is left for the kill within the shortest time between two readings.
        let small = gap.0 < FASTEST_PER_CPU / 1000;
        let mut due = now.after(seen.max(possible)).max(next);
        if !small && next_of_a_half <= now.after(self.near.share(payer)) {
            due = due.min(now.after(possible).max(next_of_a_half));
        }
        if due >= now.after(pace) {
            return None;
        }
        self.near.take(payer, now);
        Some(due)
    }

    /// When the next domain is to be read for this, or because no hook is attached.
    pub(super) fn next_near_reading(&self) -> Option<Nanos> {
        self.domains.values().filter_map(|domain| domain.read_next).min()
    }

    /// Domains that are to be read now.
    pub(super) fn near_and_due(&self, now: Nanos) -> impl Iterator<Item = DomainId> + '_ {
        // Further away than that it can only be if the clock went back.
        let last = now.after(self.pace());
        let due = move |due: Nanos| due <= now || due > last;
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
            && self.starts.deadline().is_none_or(|due| now < due)
            && self.next_gauge_deadline().is_none_or(|due| now < due)
    }
}
